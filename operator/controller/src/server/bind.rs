//! How is a port opened for IPv4 and IPv6?

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel keeps until they are accepted. Nobody is waited for when they are accepted; but one
/// that comes when the queue is full is dropped, and tries again only after a second, so that a crowd of 2,048 that
/// comes at once has to fit beside those who belong there. As much as Linux allows (`net.core.somaxconn`); it charges
/// connections to the container's memory only once they are accepted.
const BACKLOG: i32 = 4096;

/// Listens on all addresses of both families; of IPv4 alone where the kernel has no IPv6. Must be called
/// inside a tokio runtime.
///
/// # Errors
/// When the port is taken or may not be opened.
pub fn bind(port: u16) -> anyhow::Result<TcpListener> {
    let listener = match open((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if is_without_ipv6(&error) => open((Ipv4Addr::UNSPECIFIED, port).into()),
        opened => opened,
    };
    listener.with_context(|| format!("failed to listen on port {port}; check that it is not in use"))
}

fn open(address: SocketAddr) -> Result<TcpListener, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    if address.is_ipv6() {
        // Whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    // Else the port of a server that has just ended stays taken for a minute.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether the failure says that there is no IPv6 here: the kernel was started without it, or it is turned
/// off.
fn is_without_ipv6(error: &Error) -> bool {
    error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) || error.kind() == ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn clients_of_both_families_connect() {
        let listener = bind(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut homes: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            homes.push(Ipv6Addr::LOCALHOST.into());
        }
        for home in homes {
            let client = TcpStream::connect((home, port)).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!((peer.ip().to_canonical(), peer.port()), (home, client.local_addr().unwrap().port()));
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_no_reason_to_listen_to_half_of_the_world() {
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = bind(taken.local_addr().unwrap().port()).unwrap_err();
        assert!(error.to_string().contains("check that it is not in use"), "{error:#}");
    }

    #[test]
    fn only_a_kernel_without_ipv6_is_asked_for_ipv4_alone() {
        let os = |errno: Errno| Error::from_raw_os_error(errno as i32);
        let cases = [
            (Errno::EAFNOSUPPORT, true),
            (Errno::EADDRNOTAVAIL, true),
            (Errno::EADDRINUSE, false),
            (Errno::EACCES, false),
            (Errno::EMFILE, false),
        ];
        for (errno, wanted) in cases {
            assert_eq!(is_without_ipv6(&os(errno)), wanted, "{errno}");
        }
    }
}
