//! The loads of the matrix.
use super::site::File;
use super::work::Service;
use super::wrk::Style;
use crate::options::Part;

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// As many requests for a file as are answered.
    Requests { file: File, connections: u32, style: Style },
    /// A file again and again on one connection.
    Download(File),
    /// Bytes on one connection, to a server that takes them.
    Upload,
    /// Bytes on one connection, from a server that sends them.
    Pull,
    /// One byte there and back, one after the other.
    PingPong,
    /// Requests for 128 B at a rate of `LOW_RATE` or, if `half`, at half of what the server can answer.
    Paced { half: bool },
}

/// Low load: one request a millisecond, 1/s.
pub(crate) const LOW_RATE: f64 = 1000.0;

/// Connections for requests where their number is not what is looked at.
pub(crate) const CONNECTIONS: u32 = 64;

/// Connections for keep-alive requests.
pub(crate) const COUNTS: [u32; 4] = [16, 128, 1024, 4096];

/// Connections for downloads of 1 MiB.
const DOWNLOADS: u32 = 16;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Requests,
    Bytes,
    Latency,
}

impl Load {
    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Requests { file: File::Bytes128 | File::Kib1, .. } => Unit::Requests,
            Self::Requests { .. } | Self::Download(_) | Self::Upload | Self::Pull => Unit::Bytes,
            Self::Paced { .. } | Self::PingPong => Unit::Latency,
        }
    }

    /// The file that is asked for, if one is.
    pub(crate) fn file(self) -> Option<File> {
        match self {
            Self::Requests { file, .. } | Self::Download(file) => Some(file),
            Self::Paced { .. } => Some(File::Bytes128),
            Self::Upload | Self::Pull | Self::PingPong => None,
        }
    }

    /// What the server has to do with bytes, if it is not asked for files.
    pub(crate) fn service(self) -> Option<Service> {
        match self {
            Self::Upload => Some(Service::Sink),
            Self::Pull => Some(Service::Source),
            Self::PingPong => Some(Service::Echo),
            Self::Requests { .. } | Self::Download(_) | Self::Paced { .. } => None,
        }
    }
}

/// A load under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) load: Load,
    /// Congestion control on the host's side.
    pub(crate) congestion: String,
}

impl Cell {
    /// The part of the benchmarks that it belongs to.
    pub(crate) fn part(&self) -> Part {
        if self.name.starts_with("net-") { Part::Net } else { Part::Web }
    }

    /// Whether it is among those that a session is for.
    pub(crate) fn is_headline(&self) -> bool {
        self.name.starts_with("keepalive-128-")
    }

    /// Whether `word` names it, or a group that it is in.
    fn is_named(&self, word: &str) -> bool {
        self.name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// All loads; those whose speed hangs on congestion control under each of `congestions`, the others
/// under the first.
fn matrix(congestions: &[String]) -> Vec<Cell> {
    let default = congestions.first().cloned().unwrap_or_default();
    let cell = |name: &str, load| Cell { name: name.to_owned(), load, congestion: default.clone() };
    let mut cells = Vec::new();
    for file in [File::Bytes128, File::Kib1] {
        for connections in COUNTS {
            let load = Load::Requests { file, connections, style: Style::KeepAlive };
            cells.push(cell(&format!("keepalive-{}-{connections}", file.name()), load));
        }
    }
    for (name, style) in [("close", Style::Close), ("pipelined", Style::Pipelined)] {
        let load = Load::Requests { file: File::Bytes128, connections: CONNECTIONS, style };
        cells.push(cell(name, load));
    }
    let (file, style) = (File::Mib1, Style::KeepAlive);
    for (name, load) in [
        ("download-1m", Load::Requests { file, connections: DOWNLOADS, style }),
        ("download-64m", Load::Download(File::Mib64)),
        ("upload", Load::Upload),
    ] {
        for congestion in congestions {
            let name = format!("{name}-{congestion}");
            cells.push(Cell { name, load, congestion: congestion.clone() });
        }
    }
    for (name, load) in [("net-in", Load::Upload), ("net-out", Load::Pull)] {
        for congestion in congestions {
            let name = format!("{name}-{congestion}");
            cells.push(Cell { name, load, congestion: congestion.clone() });
        }
    }
    cells.push(cell("net-ping-pong", Load::PingPong));
    cells.push(cell("latency-low", Load::Paced { half: false }));
    cells.push(cell("latency-half", Load::Paced { half: true }));
    cells
}

/// One load of each kind.
const QUICK: [&str; 8] = [
    "keepalive-128-16",
    "close",
    "pipelined",
    "download-64m",
    "upload",
    "latency-low",
    "net-out",
    "net-ping-pong",
];

/// What a quick session measures unless told otherwise.
pub(crate) fn quick() -> Vec<String> {
    QUICK.map(str::to_owned).to_vec()
}

/// The loads that the words name; all without words.
///
/// # Errors
/// The first word that names nothing.
pub(crate) fn select<'a>(
    words: &'a [String],
    congestions: &[String],
) -> Result<Vec<Cell>, &'a str> {
    let mut cells = matrix(congestions);
    if let Some(word) = words.iter().find(|word| !cells.iter().any(|c| c.is_named(word))) {
        return Err(word);
    }
    cells.retain(|cell| words.is_empty() || words.iter().any(|word| cell.is_named(word)));
    Ok(cells)
}

/// The names of all loads.
pub(crate) fn names(congestions: &[String]) -> String {
    matrix(congestions).into_iter().map(|cell| cell.name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn congestions() -> [String; 2] {
        ["bbr", "reno"].map(str::to_owned)
    }

    #[track_caller]
    fn check(words: &[&str], expect: &[&str]) {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        let cells = select(&words, &congestions()).unwrap();
        assert_eq!(cells.iter().map(|cell| cell.name.as_str()).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn words_name_loads_and_groups() {
        let group =
            ["keepalive-1k-16", "keepalive-1k-128", "keepalive-1k-1024", "keepalive-1k-4096"];
        check(&["keepalive-1k"], &group);
        check(&["download-64m", "close"], &["close", "download-64m-bbr", "download-64m-reno"]);
        check(&["keepalive-128-16"], &["keepalive-128-16"]);
    }

    #[test]
    fn quick_sessions_have_one_load_of_each_kind() {
        let cells = select(&quick(), &congestions()[..1]).unwrap();
        assert!(cells.iter().any(|cell| cell.part() == Part::Net));
        assert_eq!(cells.len(), QUICK.len());
    }

    #[test]
    fn a_word_that_names_nothing_is_told() {
        for word in ["keep", "keepalive-12", "close-", ""] {
            assert_eq!(select(&[word.to_owned()], &congestions()), Err(word));
        }
    }

    #[test]
    fn the_headline_is_small_files_on_connections_that_are_kept() {
        let cells = select(&[], &congestions()).unwrap();
        assert_eq!(cells.iter().filter(|cell| cell.is_headline()).count(), COUNTS.len());
    }
}
