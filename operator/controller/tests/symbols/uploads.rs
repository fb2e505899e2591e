//! Does a file that a person uploads name the functions of later captures, and does nothing else get that far?

use std::path::{Path, PathBuf};

use bytes::Bytes;
use fleetprof_operator::results::Results;
use fleetprof_operator::symbols::uploads::{Claim, Piece, Progress, Refused};
use fleetprof_operator::symbols::{Config, Symbols};

use crate::are_in;
use crate::programs::{Program, run, shown, text};
use crate::stored::{capture, results, stored};

/// Results on a volume to which people may upload.
async fn open(folder: &Path) -> Results {
    let config: Config = serde_yaml::from_str("uploads: {size: 1Gi}").unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_fleetprof-operator"));
    results(folder, Symbols::new(&config, &folder.join("results"), program)).await
}

fn sum(path: &Path) -> String {
    run("sha256sum", &[text(path)]).split(' ').next().unwrap().to_owned()
}

/// Sends a file as the one of a build id, as the plugin does.
async fn upload(results: &Results, path: &Path, build_id: &str) -> Result<Progress, Refused> {
    let file = std::fs::read(path).unwrap();
    let claim = Claim {
        build_id: build_id.into(),
        name: "shop.debug".into(),
        bytes: file.len() as u64,
        sha256: sum(path),
    };
    let mut offset = 0;
    loop {
        let end = file.len().min(offset + (16 << 10));
        let bytes = Bytes::copy_from_slice(&file[offset..end]);
        let piece = Piece { claim: claim.clone(), user: "ann".into(), offset: offset as u64, bytes };
        match results.upload_symbols(piece).await? {
            Progress::Receiving(wanted) => offset = usize::try_from(wanted).unwrap(),
            Progress::Checking => offset = file.len(),
            stored @ Progress::Stored(_) => return Ok(stored),
        }
    }
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("results/symbols/uploaded")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_stripped_program_has_names_in_captures_after_its_symbols_were_uploaded() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    let debug = program.symbols(folder.path());
    let results = open(folder.path()).await;
    let slice = program.profile(program.function("Basket"));
    let before = capture(&results, "one", &slice).await;
    let told = results.symbols(&before).await.unwrap().unwrap();
    assert_eq!(told.missing[0].message, "nobody uploaded its symbols");

    let Ok(Progress::Stored(one)) = upload(&results, &debug, &program.build_id).await else { panic!() };
    assert_eq!((one.by.as_str(), one.bytes), ("ann", std::fs::metadata(&debug).unwrap().len()));
    let after = capture(&results, "two", &slice).await;
    let profile = stored(folder.path(), &after);
    are_in(&shown(&profile), "shop::Basket::total(unsigned long)", "shop.cpp", "discount");
    assert_eq!(results.symbols(&after).await.unwrap().unwrap().named, 100);
    assert!(shown(&stored(folder.path(), &before)).iter().all(Vec::is_empty), "what is stored stays");
    let used = results.usage().await.unwrap().used;
    assert!(used > one.bytes, "it counts on the volume: {used}");

    drop(results);
    let again = open(folder.path()).await;
    assert_eq!(again.uploaded_symbols().unwrap().0[0].file, one, "it survives the process");
    assert_eq!(again.usage().await.unwrap().used, used, "and counts as before");
    let third = capture(&again, "three", &slice).await;
    assert_eq!(again.symbols(&third).await.unwrap().unwrap().named, 100);
    again.delete_symbols(&program.build_id).await.unwrap();
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn what_is_not_what_it_is_said_to_be_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    let debug = program.symbols(folder.path());
    let results = open(folder.path()).await;
    let at = |name: &str| folder.path().join(name);
    run("strip", &["-o", text(&at("stripped")), text(&program.whole)]);
    run("objcopy", &["--remove-section=.note.gnu.build-id", text(&program.whole), text(&at("anonymous"))]);
    let whole = std::fs::read(&debug).unwrap();
    std::fs::write(at("cut"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(at("script"), "#!/bin/sh\n").unwrap();
    let id = program.build_id.as_str();
    for (path, build_id, word) in [
        (debug.clone(), "0123456789abcdef", format!("it is the file of build id {id}")),
        (at("stripped"), id, "neither debug information nor a table of symbols".to_owned()),
        (at("anonymous"), id, "it has no build id".to_owned()),
        (at("cut"), id, "it is not a whole ELF file".to_owned()),
        (at("script"), id, "it is not a whole ELF file".to_owned()),
    ] {
        match upload(&results, &path, build_id).await {
            Err(Refused::Invalid(why)) => assert!(why.contains(&word), "{}: {why}", path.display()),
            other => panic!("{}: {other:?}", path.display()),
        }
        assert_eq!((results.uploaded_symbols().unwrap().0.len(), files(folder.path())), (0, 0));
    }
}

#[tokio::test]
async fn debug_information_that_unpacks_to_too_much_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    let path = program.symbols(folder.path());
    crate::unpacks_to(&path, 1 << 40);
    let results = open(folder.path()).await;
    let refused = upload(&results, &path, &program.build_id).await;
    assert!(
        matches!(&refused, Err(Refused::Invalid(why)) if why.contains("96 MiB can be held")),
        "{refused:?}"
    );
}
