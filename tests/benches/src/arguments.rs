//! Command lines: of the benchmark, and of a peer that it starts.

use std::{net::SocketAddr, path::PathBuf};

use crate::{Failure, measures::Measure};

/// What the benchmark was asked to do.
pub struct Arguments {
    /// The measures to take, in the table's order.
    pub measures: Vec<Measure>,
    /// The built product; absent when there is none to measure.
    pub plainsight: Option<PathBuf>,
    /// Fewer and shorter repetitions.
    pub quick: bool,
}

impl Arguments {
    /// Reads the words after the program's name.
    pub fn parse(words: &[String]) -> Result<Self, Failure> {
        let (mut measures, mut plainsight, mut quick) = (Vec::new(), None, false);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--only" => {
                    let id = words.next().ok_or("--only wants a row")?;
                    let known =
                        Measure::ALL.iter().map(|measure| measure.id()).collect::<Vec<_>>().join(", ");
                    let measure = Measure::from_id(id).ok_or(format!("no row `{id}`: there are {known}"))?;
                    measures.push(measure);
                }
                "--plainsight" => {
                    plainsight = Some(PathBuf::from(words.next().ok_or("--plainsight wants a path")?));
                }
                "--quick" => quick = true,
                other => {
                    return Err(format!(
                        "`{other}` is not known: [--quick] [--only ROW] [--plainsight PATH]"
                    )
                    .into());
                }
            }
        }
        if measures.is_empty() {
            measures = Measure::ALL.to_vec();
        }
        Ok(Self { measures, plainsight: found(plainsight)?, quick })
    }
}

/// The product's executable: the one named, which must be there, or the one that a release build leaves.
fn found(named: Option<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = named {
        return if path.is_file() {
            Ok(Some(path))
        } else {
            Err(format!("no file at {}", path.display()).into())
        };
    }
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/release/plainsight");
    Ok(built.is_file().then_some(built))
}

/// What a peer is started with.
pub struct PeerArguments {
    /// Where the peer leaves its CA's certificate.
    pub ca_out: PathBuf,
    /// Whether the peer sets `TCP_NODELAY` on both of its sides.
    pub no_delay: bool,
    /// Where every name leads.
    pub origin: SocketAddr,
    /// The CA that signed the origin.
    pub origin_ca: PathBuf,
}

impl PeerArguments {
    /// Reads the words after the peer's name.
    pub fn parse(words: &[String]) -> Result<Self, Failure> {
        let value = |name: &str| -> Result<&String, Failure> {
            let at = words.iter().position(|word| word == name).ok_or(format!("{name} is missing"))?;
            Ok(words.get(at + 1).ok_or(format!("{name} wants a value"))?)
        };
        Ok(Self {
            ca_out: PathBuf::from(value("--ca-out")?),
            no_delay: words.iter().any(|word| word == "--no-delay"),
            origin: value("--origin")?.parse()?,
            origin_ca: PathBuf::from(value("--origin-ca")?),
        })
    }
}
