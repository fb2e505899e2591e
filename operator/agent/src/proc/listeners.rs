//! Where does a process listen for TCP connections, and who is connected? By the sockets among its files, and
//! what its network namespace says of them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::read_bounded;

/// Most bytes read of a list of sockets. Those that listen come first.
const MAX_BYTES: u64 = 256 * 1024;
/// Most files of a process that are looked at. A server opens its listeners early, and numbers are given from
/// below.
const MAX_FILES: usize = 4096;
/// Most listeners that are told.
const MAX_LISTENERS: usize = 64;
/// Most bytes read where connections count too: those of some ten thousand.
const MAX_CONNECTION_BYTES: u64 = 4 << 20;
/// The states of a socket that listens and of one that is connected, from `include/net/tcp_states.h`.
const LISTEN: &str = "0A";
const ESTABLISHED: &str = "01";

/// The addresses at which a process listens. Errors where the process is gone or may not be looked at.
pub fn listeners(pid: i32) -> io::Result<Vec<SocketAddr>> {
    let own = sockets(pid)?;
    let found: HashMap<u64, SocketAddr> = tables(pid, MAX_BYTES)
        .iter()
        .flat_map(|text| parse_sockets(text, LISTEN).collect::<Vec<_>>())
        .collect();
    let mut addresses: Vec<SocketAddr> =
        found.into_iter().filter(|(inode, _)| own.contains(inode)).map(|(_, address)| address).collect();
    addresses.sort_unstable();
    addresses.truncate(MAX_LISTENERS);
    Ok(addresses)
}

/// Whether any process of the network namespace of a process listens at a port.
pub fn is_listened_at(pid: i32, port: u16) -> bool {
    tables(pid, MAX_BYTES)
        .iter()
        .any(|text| parse_sockets(text, LISTEN).any(|(_, address)| address.port() == port))
}

/// How many clients are connected to an address at which a process listens.
pub fn clients(pid: i32, listener: SocketAddr) -> usize {
    let is_there = |local: SocketAddr| {
        local.port() == listener.port()
            && (listener.ip().is_unspecified() || local.ip().to_canonical() == listener.ip().to_canonical())
    };
    let tables = tables(pid, MAX_CONNECTION_BYTES);
    tables.iter().map(|text| parse_sockets(text, ESTABLISHED).filter(|(_, at)| is_there(*at)).count()).sum()
}

/// The sockets of the network namespace of a process.
fn tables(pid: i32, most: u64) -> [String; 2] {
    ["tcp", "tcp6"].map(|file| {
        let text = read_bounded(format!("/proc/{pid}/net/{file}"), most).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Whether a process is in the network namespace of this one, so that an address means the same to both.
#[must_use]
pub fn shares_network(pid: i32) -> bool {
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    of("self").is_some_and(|own| of(&pid.to_string()) == Some(own))
}

/// Inodes of the sockets among the files of a process.
fn sockets(pid: i32) -> io::Result<HashSet<u64>> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().take(MAX_FILES);
    let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    Ok(targets.filter_map(|target| socket_inode(target.to_str()?)).collect())
}

/// `socket:[4711]` → 4711.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Inode and local address of each socket that is in a state, in the text of `/proc/net/tcp` or `tcp6`.
fn parse_sockets(text: &str, wanted: &str) -> impl Iterator<Item = (u64, SocketAddr)> {
    text.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let inode = fields.nth(5)?.parse().ok()?;
        (state == wanted).then_some((inode, parse_address(local)?))
    })
}

/// `0100007F:1F90` → 127.0.0.1:8080. Each group of eight digits is a number in the machine's byte order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let group = |n: usize| {
        let digits = address.get(8 * n..8 * n + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(group(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (n, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&group(n)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn listeners_are_told_from_connections_and_damage() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n\
             1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100\n\
             2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 4713\n\
             3: 0100007:1F90 0:0 0A 0:0 0:0 0 0 0 4714\n\
             nonsense\n";
        let found: Vec<String> =
            parse_sockets(text, LISTEN).map(|(inode, at)| format!("{inode} {at}")).collect();
        assert_eq!(found, ["4711 127.0.0.1:8080", "4713 [::1]:80"]);
        assert_eq!(
            (socket_inode("socket:[7]"), socket_inode("pipe:[7]"), socket_inode("/x")),
            (Some(7), None, None)
        );
    }

    #[test]
    fn clients_are_counted_while_they_are_connected() {
        let me = i32::try_from(std::process::id()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert!(is_listened_at(me, address.port()) && clients(me, address) == 0);
        let client = std::net::TcpStream::connect(address).unwrap();
        let accepted = listener.accept().unwrap();
        assert_eq!((clients(me, address), clients(me, everywhere)), (1, 1));
        drop(client);
        assert_eq!(clients(me, address), 0);
        drop((listener, accepted));
        assert!(!is_listened_at(me, address.port()));
    }

    #[test]
    fn a_process_has_its_own_listeners_alone() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mine = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listeners(me).unwrap();
        assert!(found.contains(&mine.local_addr().unwrap()), "{found:?}");
        assert!(shares_network(me) && !shares_network(i32::MAX));
        let mut other = std::process::Command::new("sleep").arg("10").spawn().unwrap();
        let others = listeners(i32::try_from(other.id()).unwrap());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(others.unwrap(), [], "what others listen at is not its own");
        assert!(listeners(i32::MAX).is_err());
    }
}
