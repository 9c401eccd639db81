use std::{
    ffi::OsStr,
    fs::{self, DirBuilder},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    ca::{self, CaError},
    claude::{ChildEnvironment, ChildInputs, Environment},
    cli::{
        args::{EnvCommand, EnvFormat},
        exit::{Exit, Failure},
        output,
    },
    config::{self, Env, Settings},
};

pub(super) fn execute(command: &EnvCommand, settings: &Settings, environment: &Env) -> Result<Exit, Failure> {
    let ca = match ca::stored::load(&settings.data_dir) {
        Ok(ca) => ca,
        Err(CaError::NotStored(_)) => {
            eprintln!(
                "plainsight: there is no stored CA yet; start `plainsight proxy` once, or `plainsight service install`"
            );
            return Ok(Exit::No);
        }
        Err(error) => return Err(Failure::new("the stored CA", error)),
    };
    let listen = command.listen.unwrap_or(settings.listen);
    if !answers(listen) {
        eprintln!(
            "plainsight: nothing listens on {listen} now; start `plainsight proxy`, or programs cannot reach anything"
        );
    }
    let in_container = command.format == EnvFormat::Dockerfile;
    let folder = settings.data_dir.join(if in_container { "env-container" } else { "env" });
    private_folder(&folder)?;
    let proxy_url = format!("http://{listen}");
    // A container begins with nothing of ours.
    let parent = if in_container {
        Environment::new()
    } else {
        without_ours(environment.variables(), &proxy_url, &folder)
    };
    let mut child = ChildEnvironment::compute(
        ChildInputs {
            parent: &parent,
            proxy_url: &proxy_url,
            folder: if in_container { Path::new(CONTAINER_FOLDER) } else { &folder },
            ca_pem: ca.certificate_pem(),
            system_roots_pem: &config::system_roots().to_pem(),
        },
        |path| fs::read(path),
    );
    if command.otlp {
        child.extend([("OTEL_EXPORTER_OTLP_ENDPOINT", OTLP_ENDPOINT.to_owned())]);
    }
    child.replace_files_in(&folder).map_err(|error| Failure::new("writing the certificates", error))?;
    for problem in child.problems() {
        eprintln!("plainsight: {problem}");
    }
    let variables = child.changes().map(|(name, value)| {
        let text = |text: &OsStr| text.to_str().map(str::to_owned);
        text(name).zip(text(value)).ok_or_else(|| {
            Failure(format!(
                "the data folder {} is no UTF-8, so it cannot stand in a variable",
                folder.display()
            ))
        })
    });
    let variables = variables.collect::<Result<Vec<_>, _>>()?;
    output::print(&printed(command.format, &variables, &folder))?;
    Ok(Exit::Success)
}

/// Whether someone listens there.
fn answers(listen: SocketAddr) -> bool {
    TcpStream::connect_timeout(&listen, PROBE_TIME).is_ok()
}

fn private_folder(folder: &Path) -> Result<(), Failure> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| Failure::new(&folder.display().to_string(), error))
}

/// What a shell had before it was told of us: asked twice, the answer is the same, and nothing of ours is merged with itself.
fn without_ours(environment: &Environment, proxy_url: &str, folder: &Path) -> Environment {
    let is_ours = |value: &OsStr| value == proxy_url || Path::new(value).starts_with(folder);
    environment
        .iter()
        .filter(|(_, value)| !is_ours(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn printed(format: EnvFormat, variables: &[(String, String)], folder: &Path) -> String {
    let lines = |line: fn(&str, &str) -> String| -> String {
        variables.iter().map(|(name, value)| line(name, value) + "\n").collect()
    };
    let object = || -> Map<String, Value> {
        variables.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect()
    };
    let pretty = |value: &Value| format!("{value:#}\n");
    match format {
        EnvFormat::Dockerfile => {
            let folder = folder.display();
            let head = format!(
                "# docker build --build-context plainsight={folder} …\n# docker run --network host …: the proxy listens on this machine's loopback only\nCOPY --from=plainsight . {CONTAINER_FOLDER}/\n"
            );
            head + &lines(|name, value| format!("ENV {name}={}", docker_quoted(value)))
        }
        EnvFormat::Fish => lines(|name, value| format!("set -gx {name} {}", fish_quoted(value))),
        EnvFormat::Json => pretty(&Value::Object(object())),
        EnvFormat::Powershell => {
            lines(|name, value| format!("$env:{name} = '{}'", value.replace('\'', "''")))
        }
        EnvFormat::Settings => pretty(&json!({ "env": object() })),
        EnvFormat::Shell => lines(|name, value| format!("export {name}='{}'", value.replace('\'', r"'\''"))),
    }
}

fn fish_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

fn docker_quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"").replace('$', r"\$"))
}

/// Where a container gets the certificates.
const CONTAINER_FOLDER: &str = "/etc/plainsight";
/// Where `proxy --otlp` receives, over gRPC and over HTTP.
const OTLP_ENDPOINT: &str = "http://127.0.0.1:4318";
/// Loopback answers at once or not at all.
const PROBE_TIME: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const NASTY: &str = "it's \"a\" $HOME `id` \\ end";

    fn print(format: EnvFormat) -> String {
        let variables =
            [("A".to_owned(), NASTY.to_owned()), ("B".to_owned(), "http://127.0.0.1:8788".to_owned())];
        printed(format, &variables, Path::new("/data/env"))
    }

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        let script = print(EnvFormat::Shell) + "printf '%s|%s' \"$A\" \"$B\"";

        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();

        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{NASTY}|http://127.0.0.1:8788"));
    }

    #[test]
    fn each_format_quotes_as_it_must() {
        assert!(print(EnvFormat::Fish).starts_with(r#"set -gx A 'it\'s "a" $HOME `id` \\ end'"#));
        assert!(print(EnvFormat::Powershell).starts_with("$env:A = 'it''s \"a\" $HOME"));
        assert!(print(EnvFormat::Dockerfile).contains(r#"ENV A="it's \"a\" \$HOME `id` \\ end""#));
        let json: Value = serde_json::from_str(&print(EnvFormat::Json)).unwrap();
        let settings: Value = serde_json::from_str(&print(EnvFormat::Settings)).unwrap();
        assert_eq!((&json["A"], &settings["env"]), (&json!(NASTY), &json));
    }

    #[test]
    fn what_is_ours_already_is_not_merged_with_itself() {
        let folder = Path::new("/data/env");
        let environment: Environment = [
            ("HTTPS_PROXY", "http://127.0.0.1:8788"),
            ("NODE_EXTRA_CA_CERTS", "/data/env/ca.pem"),
            ("SSL_CERT_FILE", "/etc/corp.pem"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();

        let before = without_ours(&environment, "http://127.0.0.1:8788", folder);

        assert_eq!(before.into_keys().collect::<Vec<_>>(), ["SSL_CERT_FILE"]);
    }
}
