//! Every file in conf/samples works as it stands: the whole life of an attachment on a host that
//! has what the sample names.

use std::path::Path;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, Outcome, Sample, Site, samples, samples_of_others,
    slice,
};

/// Of the files that others write, with each backend, so many are tried in a run.
const TRIED: usize = 18;

fn life(path: &Path, backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let sample = Sample::load(path, &site)?;
    let joined = sample.equip(&site)?;
    let network = sample.network();
    let before = site.snapshot()?;
    let container = Container::new("sample")?;
    let mut attachment = Attachment::new(&container);
    // Modes without ports of their own are asked for none.
    if sample.has("portmap") {
        attachment = attachment.publish("", 8080, 80, "tcp");
    }
    let result = site.runtime().add(&network, &mut attachment)?;
    // Results of old versions have one of each family.
    let old = result["ip4"].is_object();
    if !old && result["ips"].as_array().is_none_or(Vec::is_empty) {
        return Err(Failure::new(format!("no address: {result}")));
    }
    let version = network.version();
    if !["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&version) {
        site.runtime().check(&network, &attachment)?;
    }
    if version == "1.1.0" {
        site.runtime().status(&network)?;
    }
    site.runtime().del(&network, &attachment)?;
    if let Some(joined) = &joined {
        site.runtime().check(&joined.network, &joined.attachment)?;
    }
    site.nothing_left(&before, &[&network], "ADD and DEL")
}

#[test]
fn every_sample_works() -> Outcome {
    let samples = samples()?;
    let mut wrong = Vec::new();
    for path in &samples {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        wrong.extend(
            life(path, Backend::Nftables)
                .err()
                .map(|error| format!("{name}: {error}")),
        );
    }
    if samples.len() < 8 {
        wrong.push(format!("only {} samples", samples.len()));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

#[test]
fn everything_that_others_write_works() -> Outcome {
    let others = samples_of_others()?;
    let mut wrong = Vec::new();
    let cases = Backend::ALL
        .into_iter()
        .flat_map(|backend| others.iter().map(move |path| (path, backend)));
    for (path, backend) in slice("samples of others", cases, TRIED) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let told = life(path, backend).err();
        wrong.extend(told.map(|error| format!("{name}, {backend}: {error}")));
    }
    if others.len() < 18 {
        wrong.push(format!("only {} configurations", others.len()));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

#[test]
fn every_mode_has_a_sample() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let mut loaded = Vec::new();
    for path in samples()? {
        loaded.push(Sample::load(&path, &site)?);
    }
    let missing: Vec<&str> = ["bridge", "none", "host", "container"]
        .into_iter()
        .filter(|mode| !loaded.iter().any(|one| one.types().first() == Some(mode)))
        .collect();
    let names: Vec<String> = loaded
        .iter()
        .map(|sample| sample.network().name().to_owned())
        .collect();
    let mut unique = names.clone();
    unique.sort();
    unique.dedup();
    if missing.is_empty() && unique.len() == names.len() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "no sample of {missing:?}, or one name twice: {names:?}"
        )))
    }
}
