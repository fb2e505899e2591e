//! In which file is a method's code, and which file tells its lines?

use super::bytes::Cursor;
use crate::read::ReadError;

/// Most characters of a path that are kept.
const MAX_PATH: usize = 1024;

/// What identifies the debug information of an assembly: another build has another one.
pub type Guid = [u8; 16];

/// An assembly that the process has loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    /// The runtime's number of it.
    pub number: u64,
    /// Its file, as the process sees it; empty where it has none.
    pub path: String,
    /// Which debug information is of it; zeros where the assembly does not say.
    pub guid: Guid,
    /// Where its debug information was when it was built.
    pub symbols: String,
}

impl Module {
    /// The content of an event about a module.
    pub(super) fn read(content: &mut Cursor<'_>) -> Result<Self, ReadError> {
        let (number, _assembly) = (content.long()?, content.long()?);
        let (_flags, _reserved) = (content.int()?, content.int()?);
        let path = content.text(MAX_PATH)?;
        let _native = content.text(0)?;
        let _runtime = content.short()?;
        let guid = content.array()?;
        let _age = content.int()?;
        Ok(Self { number, path, guid, symbols: content.text(MAX_PATH)? })
    }

    /// Paths at which a file with its debug information may be, beside the assembly.
    #[must_use]
    pub fn symbol_files(&self) -> Vec<String> {
        let Some((directory, name)) = self.path.rsplit_once('/') else { return Vec::new() };
        let built = self.symbols.rsplit(['/', '\\']).next().unwrap_or_default();
        let own = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let mut names = vec![format!("{own}.pdb")];
        if !built.is_empty() && built != names[0] {
            names.insert(0, built.to_owned());
        }
        names.into_iter().map(|name| format!("{directory}/{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_information_is_looked_for_beside_the_assembly() {
        let files = |path: &str, symbols: &str| {
            Module { path: path.into(), symbols: symbols.into(), ..Module::default() }.symbol_files()
        };
        assert_eq!(files("/app/Shop.dll", "/src/obj/Shop.pdb"), ["/app/Shop.pdb"]);
        assert_eq!(files("/app/Shop.Web.dll", r"C:\src\Web.pdb"), ["/app/Web.pdb", "/app/Shop.Web.pdb"]);
        assert_eq!(files("/app/Shop", ""), ["/app/Shop.pdb"]);
        assert_eq!(files("/app/Shop.dll", "/src/.."), ["/app/..", "/app/Shop.pdb"]);
        assert!(files("", "Shop.pdb").is_empty() && files("Shop.dll", "").is_empty());
    }
}
