//! The schemas that are shipped are those of the types, and `pontoon lint` finds nothing in the
//! samples, and something in what is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pontoon_lab::{Failure, Outcome, Programs, Scratch, shipped_schemas};

fn conf(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../conf")
        .join(folder)
}

fn files(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(Failure::act(format!("list {}", dir.display())))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// What lint says of files, and whether it is content.
fn lint(files: &[PathBuf]) -> Outcome<(bool, String)> {
    let mut command = Command::new(Programs::built()?.program("pontoon"));
    let output = command.arg("lint").args(files).output();
    let output = output.map_err(Failure::act("run pontoon lint"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.success(), text))
}

#[test]
fn shipped_as_made() -> Outcome {
    let made = shipped_schemas()?;
    for (name, text) in &made {
        let shipped = fs::read_to_string(conf("schemas").join(name)).unwrap_or_default();
        if shipped != *text {
            return Err(Failure::new(format!(
                "conf/schemas/{name} is not what the types say: run `cargo xtask schemas`"
            )));
        }
    }
    let there = files(&conf("schemas"))?.len();
    if there != made.len() {
        return Err(Failure::new(format!(
            "conf/schemas has {there} files instead of {}",
            made.len()
        )));
    }
    Ok(())
}

#[test]
fn nothing_to_say_of_samples() -> Outcome {
    let all = files(&conf("samples"))?;
    let (content, text) = lint(&all)?;
    let told: Vec<&str> = text
        .lines()
        .filter(|line| !line.ends_with(": nothing to say"))
        .collect();
    if content && told.is_empty() && all.len() > 10 {
        return Ok(());
    }
    Err(Failure::new(told.join("\n")))
}

#[test]
fn nothing_wrong_in_what_others_write() -> Outcome {
    let others = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/others");
    match lint(&files(&others)?)? {
        (true, _) => Ok(()),
        (false, text) => Err(Failure::new(text)),
    }
}

#[test]
fn a_mistake_is_told_with_its_place() -> Outcome {
    let dir = Scratch::new("lint")?;
    let file = dir.path().join("wrong.conflist");
    let text = "{\n  \"cniVersion\": \"1.0.0\", \"name\": \"n\",\n  \"plugins\": [\n    \
                { \"type\": \"bridge\", \"isGatway\": true, \"ipMasq\": \"yes\" }\n  ]\n}\n";
    fs::write(&file, text).map_err(Failure::act("write a conflist"))?;
    let (content, told) = lint(std::slice::from_ref(&file))?;
    let place = file.display();
    let expected = format!(
        "{place}:4:25: warning: plugin bridge has no key \"isGatway\": did you mean \"isGateway\"?\n\
         {place}:4:53: error: key \"ipMasq\" of plugin bridge must be true or false, not \"yes\"\n"
    );
    if content || told != expected {
        return Err(Failure::new(format!("{told}instead of\n{expected}")));
    }
    Ok(())
}
