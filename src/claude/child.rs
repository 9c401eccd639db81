use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::claude::{ClaudeError, ClientSettings, Environment, text};

/// What makes a child, and its children, speak through us and trust our CA.
///
/// # Proxy variables
/// `HTTPS_PROXY` and `HTTP_PROXY` in both cases, and `grpc_proxy`: gRPC reads no upper-case ones. `ALL_PROXY` is
/// replaced where the user had one, so that nobody goes round us by it, and not added: it would bring protocols
/// that we do not carry, such as FTP, to us. `NO_PROXY` names loopback only. What the user had in it is not lost: we
/// ourselves dial those hosts directly ([`crate::claude::UpstreamProxies`]); left with the child it would hide them.
///
/// # Roots
/// `NODE_EXTRA_CA_CERTS` *adds* to the roots that Node, Bun and the client have built in: our CA alone. The others
/// *replace* a program's roots, so they get a bundle: what the user had there, else the system's, and our CA. The
/// ones that are set though the user had none are those by which a common child (curl, Python, git, cargo, aws,
/// Deno, gRPC) can reach an intercepted host at all. The rest are rarely set, and touched only where they were.
pub struct ChildEnvironment {
    changes: BTreeMap<OsString, OsString>,
    files: Vec<(PathBuf, Vec<u8>)>,
    problems: Vec<String>,
}

/// What [`ChildEnvironment::compute`] needs to know.
#[derive(Clone, Copy)]
pub struct ChildInputs<'a> {
    /// The environment that plainsight was started with.
    pub parent: &'a Environment,
    /// The proxy with the credential of this run: `http://plainsight:TOKEN@127.0.0.1:PORT`.
    pub proxy_url: &'a str,
    /// A folder that only the user may enter, and that outlives the child.
    pub folder: &'a Path,
    /// Our CA's certificate.
    pub ca_pem: &'a str,
    /// The system's roots; empty if they could not be read.
    pub system_roots_pem: &'a str,
}

impl ChildEnvironment {
    /// Works out variables and files. `read` gets the paths that stand in the user's variables.
    pub fn compute(inputs: ChildInputs<'_>, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Self {
        let mut computed = Self { changes: BTreeMap::new(), files: Vec::new(), problems: Vec::new() };
        computed.proxy_variables(&inputs);
        computed.added_roots(&inputs, &read);
        computed.replaced_roots(&inputs, &read);
        computed
    }

    /// Sets variables besides.
    pub fn extend<'a>(&mut self, variables: impl IntoIterator<Item = (&'a str, String)>) {
        for (name, value) in variables {
            self.set(name, value);
        }
    }

    /// Adds a file to those that are written.
    pub fn add_file(&mut self, path: PathBuf, content: Vec<u8>) {
        self.files.push((path, content));
    }

    /// The variables to set.
    pub fn changes(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.changes.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The files that the variables name, with their content.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files.iter().map(|(path, content)| (path.as_path(), content.as_slice()))
    }

    /// What the user should be told: files that could not be read, and what follows from that.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// `parent` with the changes made.
    pub fn apply(&self, parent: &Environment) -> Environment {
        let mut environment = parent.clone();
        environment.extend(self.changes.clone());
        environment
    }

    /// Variables of ours that a settings file overrides: the client would go round us, or not trust us.
    pub fn overridden_by<'a>(&self, settings: &'a [ClientSettings]) -> Vec<(&'a OsStr, &'a Path)> {
        let mut overridden = Vec::new();
        for layer in settings {
            for (name, value) in &layer.environment {
                if self.changes.get(name).is_some_and(|ours| ours != value) {
                    overridden.push((name.as_os_str(), layer.path.as_path()));
                }
            }
        }
        overridden
    }

    /// Writes the files, readable by their owner only. They must not exist yet.
    ///
    /// # Errors
    /// [`ClaudeError::Io`].
    pub fn write_files(&self) -> Result<(), ClaudeError> {
        for (path, content) in &self.files {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options
                .open(path)
                .and_then(|mut file| file.write_all(content))
                .map_err(|source| ClaudeError::Io { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// Writes the files into `folder`, whatever folder the variables name, in place of those that are there. They are
    /// certificates and no secret: whoever may enter the folder may read them, such as another user in a container.
    ///
    /// # Errors
    /// [`ClaudeError::Io`].
    pub fn replace_files_in(&self, folder: &Path) -> Result<(), ClaudeError> {
        for (path, content) in &self.files {
            let path = folder.join(path.file_name().unwrap_or(path.as_os_str()));
            let failed = |source| ClaudeError::Io { path: path.clone(), source };
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
            file.write_all(content).map_err(failed)?;
            #[cfg(unix)]
            file.as_file()
                .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .map_err(failed)?;
            file.persist(&path).map_err(|error| failed(error.error))?;
        }
        Ok(())
    }

    fn proxy_variables(&mut self, inputs: &ChildInputs<'_>) {
        for name in PROXY_VARIABLES {
            self.set(name, inputs.proxy_url);
        }
        for name in PROXY_VARIABLES_IF_THERE {
            if text(inputs.parent, name).is_some() {
                self.set(name, inputs.proxy_url);
            }
        }
        for name in NO_PROXY_VARIABLES {
            self.set(name, NO_PROXY);
        }
        if text(inputs.parent, NO_GRPC_PROXY).is_some() {
            self.set(NO_GRPC_PROXY, NO_PROXY);
        }
        self.set("NODE_USE_ENV_PROXY", "1");
    }

    fn added_roots(&mut self, inputs: &ChildInputs<'_>, read: &impl Fn(&Path) -> io::Result<Vec<u8>>) {
        let had = text(inputs.parent, NODE_EXTRA_CA_CERTS).map(Path::new);
        let had = had.and_then(|path| match read(path) {
            Ok(content) => Some(content),
            Err(error) => {
                // Node goes on without a file that it cannot read, so nothing is lost.
                self.problems.push(format!("{NODE_EXTRA_CA_CERTS}={}: {error}; left out", path.display()));
                None
            }
        });
        let content = joined(&had.unwrap_or_default(), inputs.ca_pem);
        self.file(NODE_EXTRA_CA_CERTS, inputs.folder.join("ca.pem"), content);
    }

    fn replaced_roots(&mut self, inputs: &ChildInputs<'_>, read: &impl Fn(&Path) -> io::Result<Vec<u8>>) {
        let bundle_path = inputs.folder.join("roots-and-ca.pem");
        let has_roots = !inputs.system_roots_pem.trim().is_empty();
        if has_roots {
            let bundle = joined(inputs.system_roots_pem.as_bytes(), inputs.ca_pem);
            self.files.push((bundle_path.clone(), bundle));
        } else {
            self.problems.push(
                "the system's root certificates could not be read; programs other than the client may not trust \
                 intercepted hosts"
                    .to_owned(),
            );
        }
        for variable in ROOT_VARIABLES {
            match variable.user_had(inputs.parent) {
                Some(path) => match read(path) {
                    Ok(content) => {
                        let merged = inputs.folder.join(format!("merged-{}.pem", variable.name));
                        self.file(variable.name, merged, joined(&content, inputs.ca_pem));
                    }
                    Err(error) => self.problems.push(format!(
                        "{}={}: {error}; left as it is, so programs that use it do not trust intercepted hosts",
                        variable.name,
                        path.display()
                    )),
                },
                None if has_roots && variable.set_always => self.set(variable.name, &bundle_path),
                None => {}
            }
        }
    }

    fn file(&mut self, variable: &str, path: PathBuf, content: Vec<u8>) {
        self.set(variable, &path);
        self.files.push((path, content));
    }

    fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.changes.insert(name.into(), value.as_ref().to_owned());
    }
}

/// Shows names only: the proxy's URL holds the run's credential.
impl fmt::Debug for ChildEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildEnvironment")
            .field("variables", &self.changes.keys())
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

/// PEM after PEM, whatever the first ends with.
fn joined(first: &[u8], second: &str) -> Vec<u8> {
    let mut content = first.to_vec();
    if !content.is_empty() && !content.ends_with(b"\n") {
        content.push(b'\n');
    }
    content.extend_from_slice(second.as_bytes());
    if !content.ends_with(b"\n") {
        content.push(b'\n');
    }
    content
}

/// A variable that names a file with all roots that a program has.
struct RootVariable {
    name: &'static str,
    /// What the program looks at when this one is not set, and so must not be lost when we set it.
    falls_back_to: &'static [&'static str],
    /// Whether we set it though the user did not.
    set_always: bool,
}

impl RootVariable {
    const fn always(name: &'static str, falls_back_to: &'static [&'static str]) -> Self {
        Self { name, falls_back_to, set_always: true }
    }

    const fn if_there(name: &'static str) -> Self {
        Self { name, falls_back_to: &[], set_always: false }
    }

    fn user_had<'a>(&self, parent: &'a Environment) -> Option<&'a Path> {
        let mut names = std::iter::once(&self.name).chain(self.falls_back_to);
        names.find_map(|name| parent.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(Path::new))
    }
}

const ROOT_VARIABLES: [RootVariable; 18] = [
    RootVariable::always("AWS_CA_BUNDLE", &["REQUESTS_CA_BUNDLE"]),
    RootVariable::always("CARGO_HTTP_CAINFO", &["SSL_CERT_FILE"]),
    RootVariable::always("CURL_CA_BUNDLE", &["SSL_CERT_FILE"]),
    RootVariable::always("DENO_CERT", &[]),
    RootVariable::always("GIT_SSL_CAINFO", &[]),
    // gRPC in C, Python, Ruby and JavaScript.
    RootVariable::always("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", &[]),
    // The client's own gRPC exporter trusts this.
    RootVariable::always("OTEL_EXPORTER_OTLP_CERTIFICATE", &[]),
    RootVariable::always("REQUESTS_CA_BUNDLE", &["CURL_CA_BUNDLE"]),
    // OpenSSL, and with it Python's ssl and httpx; Go; rustls with native roots; Ruby.
    RootVariable::always("SSL_CERT_FILE", &[]),
    RootVariable::if_there("BUNDLE_SSL_CA_CERT"),
    RootVariable::if_there("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE"),
    RootVariable::if_there("NIX_SSL_CERT_FILE"),
    RootVariable::if_there("NPM_CONFIG_CAFILE"),
    RootVariable::if_there("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE"),
    RootVariable::if_there("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE"),
    RootVariable::if_there("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"),
    RootVariable::if_there("PIP_CERT"),
    RootVariable::if_there("npm_config_cafile"),
];

const NODE_EXTRA_CA_CERTS: &str = "NODE_EXTRA_CA_CERTS";

const PROXY_VARIABLES: [&str; 5] = ["HTTPS_PROXY", "HTTP_PROXY", "grpc_proxy", "http_proxy", "https_proxy"];

const PROXY_VARIABLES_IF_THERE: [&str; 2] = ["ALL_PROXY", "all_proxy"];

const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// gRPC looks here before it looks at `no_proxy`.
const NO_GRPC_PROXY: &str = "no_grpc_proxy";

/// Loopback: MCP servers on this machine. In every spelling that somebody matches; Bun knows no bare `::1`.
const NO_PROXY: &str = "localhost,127.0.0.1,::1,[::1]";

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const CA: &str = "-----CA-----\n";
    const ROOTS: &str = "-----ROOTS-----";

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn compute_with(parent: &[(&str, &str)], roots: &str) -> ChildEnvironment {
        let inputs = ChildInputs {
            parent: &environment(parent),
            proxy_url: "http://plainsight:token@127.0.0.1:1",
            folder: Path::new("/private"),
            ca_pem: CA,
            system_roots_pem: roots,
        };
        ChildEnvironment::compute(inputs, |path| match path.to_str() {
            Some("/corp.pem") => Ok(b"-----CORP-----".to_vec()),
            Some("/other.pem") => Ok(b"-----OTHER-----\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn compute(parent: &[(&str, &str)]) -> ChildEnvironment {
        compute_with(parent, ROOTS)
    }

    fn value<'a>(child: &'a ChildEnvironment, name: &str) -> Option<&'a str> {
        child.changes.get(OsStr::new(name))?.to_str()
    }

    /// What the file holds that the variable names.
    fn content(child: &ChildEnvironment, name: &str) -> Option<String> {
        let path = Path::new(value(child, name)?);
        let (_, content) =
            child.files().find(|(file, _)| *file == path).expect("a variable names a file of ours");
        Some(String::from_utf8(content.to_vec()).unwrap())
    }

    #[test]
    fn everyone_is_told_of_the_proxy_in_the_case_that_they_read() {
        // PITFALLS 17, 18
        let child = compute(&[("NO_PROXY", "internal.example"), ("http_proxy", "http://corp:3128")]);

        for name in ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "grpc_proxy"] {
            assert_eq!(value(&child, name), Some("http://plainsight:token@127.0.0.1:1"), "{name}");
        }
        for name in ["NO_PROXY", "no_proxy"] {
            assert_eq!(value(&child, name), Some("localhost,127.0.0.1,::1,[::1]"), "{name}");
        }
        assert_eq!(value(&child, "NODE_USE_ENV_PROXY"), Some("1"));
    }

    #[test]
    fn ways_round_us_are_closed_only_where_there_were_any() {
        // PITFALLS 17
        let without = compute(&[]);
        let with = compute(&[("ALL_PROXY", "socks5://corp:1"), ("no_grpc_proxy", "collector.example")]);

        assert_eq!(value(&without, "ALL_PROXY"), None);
        assert_eq!(value(&without, "no_grpc_proxy"), None);
        assert_eq!(value(&with, "ALL_PROXY"), value(&with, "HTTPS_PROXY"));
        assert_eq!(value(&with, "all_proxy"), None);
        assert_eq!(value(&with, "no_grpc_proxy"), value(&with, "no_proxy"));
    }

    #[test]
    fn node_gets_the_ca_alone_and_the_others_all_roots_with_it() {
        // PITFALLS 15
        let child = compute(&[]);

        assert_eq!(content(&child, "NODE_EXTRA_CA_CERTS").as_deref(), Some(CA));
        for name in [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "CARGO_HTTP_CAINFO",
            "AWS_CA_BUNDLE",
            "DENO_CERT",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
        ] {
            assert_eq!(content(&child, name).as_deref(), Some("-----ROOTS-----\n-----CA-----\n"), "{name}");
        }
        assert_eq!(value(&child, "PIP_CERT"), None);
        assert!(child.problems().is_empty());
    }

    #[test]
    fn what_the_user_had_is_merged() {
        // PITFALLS 15
        let child = compute(&[
            ("NODE_EXTRA_CA_CERTS", "/corp.pem"),
            ("SSL_CERT_FILE", "/other.pem"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/corp.pem"),
            ("PIP_CERT", "/corp.pem"),
        ]);

        let corp = Some("-----CORP-----\n-----CA-----\n");
        assert_eq!(content(&child, "NODE_EXTRA_CA_CERTS").as_deref(), corp);
        assert_eq!(content(&child, "OTEL_EXPORTER_OTLP_CERTIFICATE").as_deref(), corp);
        assert_eq!(content(&child, "PIP_CERT").as_deref(), corp);
        assert_eq!(content(&child, "SSL_CERT_FILE").as_deref(), Some("-----OTHER-----\n-----CA-----\n"));
    }

    #[test]
    fn a_variable_that_we_add_does_not_hide_the_one_that_was_used_so_far() {
        // PITFALLS 15: requests looks at CURL_CA_BUNDLE only while REQUESTS_CA_BUNDLE is not set
        let child = compute(&[("CURL_CA_BUNDLE", "/corp.pem")]);

        assert_eq!(content(&child, "REQUESTS_CA_BUNDLE").as_deref(), Some("-----CORP-----\n-----CA-----\n"));
        assert_eq!(content(&child, "SSL_CERT_FILE").as_deref(), Some("-----ROOTS-----\n-----CA-----\n"));
    }

    #[test]
    fn what_cannot_be_merged_is_left_alone_and_said() {
        let child = compute(&[("SSL_CERT_FILE", "/gone.pem"), ("NODE_EXTRA_CA_CERTS", "/gone.pem")]);

        assert_eq!(value(&child, "SSL_CERT_FILE"), None);
        assert_eq!(content(&child, "NODE_EXTRA_CA_CERTS").as_deref(), Some(CA));
        assert!(child.problems().iter().any(|problem| problem.starts_with("SSL_CERT_FILE=/gone.pem")));
        assert!(child.problems().iter().any(|problem| problem.starts_with("NODE_EXTRA_CA_CERTS=/gone.pem")));
    }

    #[test]
    fn without_the_system_s_roots_nothing_is_replaced_that_worked() {
        let child = compute_with(&[("GIT_SSL_CAINFO", "/corp.pem")], "");

        assert_eq!(value(&child, "SSL_CERT_FILE"), None);
        assert_eq!(content(&child, "GIT_SSL_CAINFO").as_deref(), Some("-----CORP-----\n-----CA-----\n"));
        assert_eq!(content(&child, "NODE_EXTRA_CA_CERTS").as_deref(), Some(CA));
        assert_eq!(child.problems().len(), 1);
    }

    #[test]
    fn settings_that_lead_round_us_are_named() {
        let settings = ClientSettings::parse(
            Path::new("/w/.claude/settings.json"),
            r#"{"env":{"HTTPS_PROXY":"http://corp:3128","NODE_USE_ENV_PROXY":"1","MINE":"x"}}"#,
        );

        let settings = [settings.unwrap()];
        let child = compute(&[]);
        let overridden = child.overridden_by(&settings);

        assert_eq!(overridden, [(OsStr::new("HTTPS_PROXY"), Path::new("/w/.claude/settings.json"))]);
    }

    #[test]
    fn the_rest_of_the_environment_is_the_parent_s() {
        let parent = environment(&[("HOME", "/home/jo"), ("NO_PROXY", "x")]);

        let applied = compute(&[]).apply(&parent);

        assert_eq!(applied.get(OsStr::new("HOME")).unwrap(), "/home/jo");
        assert_eq!(applied.get(OsStr::new("NO_PROXY")).unwrap(), NO_PROXY);
    }

    #[test]
    fn debug_output_does_not_hold_the_credential() {
        let child = compute(&[]);

        assert!(value(&child, "HTTPS_PROXY").unwrap().contains("token"));
        assert!(!format!("{child:?}").contains("token"));
    }

    #[cfg(unix)]
    #[test]
    fn files_are_written_private_and_never_over_others() {
        // PITFALLS 31
        use std::os::unix::fs::PermissionsExt as _;

        let folder = TempDir::new().unwrap();
        let inputs = ChildInputs {
            parent: &Environment::new(),
            proxy_url: "http://127.0.0.1:1",
            folder: folder.path(),
            ca_pem: CA,
            system_roots_pem: ROOTS,
        };
        let child = ChildEnvironment::compute(inputs, |_| Err(io::ErrorKind::NotFound.into()));

        child.write_files().unwrap();

        for (path, content) in child.files() {
            assert_eq!(std::fs::read(path).unwrap(), content);
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(matches!(child.write_files(), Err(ClaudeError::Io { .. })));
    }
}
