use std::{fmt::Write as _, time::SystemTime};

use crate::{
    ca::{self, CaError, CertificateAuthority, Scope},
    cli::{
        args::Ca,
        exit::{Exit, Failure},
        output,
    },
    config::Settings,
    destination::Catalogue,
};

pub(super) fn execute(command: &Ca, settings: &Settings) -> Result<Exit, Failure> {
    let failed = |error: CaError| Failure::new("the stored CA", error);
    let path = ca::stored::path(&settings.data_dir);
    match command {
        Ca::Path => match ca::stored::load(&settings.data_dir) {
            Ok(_) => output::print(&format!("{}\n", path.display()))?,
            Err(CaError::NotStored(_)) => {
                eprintln!("plainsight: there is no stored CA yet; `plainsight proxy` makes one");
                return Ok(Exit::No);
            }
            Err(error) => return Err(failed(error)),
        },
        Ca::Remove => {
            if !ca::stored::remove(&settings.data_dir).map_err(failed)? {
                eprintln!("plainsight: there is no stored CA");
                return Ok(Exit::No);
            }
            output::print("removed; take its certificate out of wherever you made it trusted\n")?;
        }
        Ca::Rotate => {
            let scope = Scope::from_patterns(Catalogue::embedded().intercepted().chain(&settings.intercept));
            let ca = ca::stored::rotate(&settings.data_dir, scope, SystemTime::now()).map_err(failed)?;
            output::print(&describe(&ca, &path.display().to_string()))?;
            eprintln!("plainsight: a proxy that is running goes on with the old one until it is restarted");
        }
        Ca::Show => {
            let ca = match ca::stored::load(&settings.data_dir) {
                Err(CaError::NotStored(_)) => {
                    eprintln!("plainsight: there is no stored CA yet; `plainsight proxy` makes one");
                    return Ok(Exit::No);
                }
                other => other.map_err(failed)?,
            };
            output::print(&describe(&ca, &path.display().to_string()))?;
        }
    }
    Ok(Exit::Success)
}

fn describe(ca: &CertificateAuthority, path: &str) -> String {
    let mut text = String::new();
    let not_after =
        jiff::Timestamp::try_from(ca.not_after()).map(|time| time.to_string()).unwrap_or_default();
    let _ = writeln!(text, "certificate  {path}");
    let _ = writeln!(text, "fingerprint  {}", ca.fingerprint_sha256());
    let _ = writeln!(text, "valid until  {not_after}");
    let scope = ca.scope();
    if scope.unconstrained {
        let _ = writeln!(text, "may sign     for any name");
    }
    for (index, name) in scope
        .names
        .iter()
        .map(|name| name.to_string())
        .chain(scope.addresses.iter().map(|a| a.to_string()))
        .enumerate()
    {
        let _ = writeln!(text, "{}  {name}", if index == 0 { "may sign   " } else { "           " });
    }
    text
}
