//! The configuration file.
use serde::Deserialize;

/// What an operator can set. Every key has a default; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// TCP port to listen on.
    pub port: u16,
    /// Whether each request is written to the access log.
    pub access_log: bool,
    /// Whether `/.paravane/metrics` is served.
    pub metrics: bool,
    /// Bounds on what clients may send and hold.
    pub limits: Limits,
    /// How long the server waits for clients.
    pub timeouts: Timeouts,
    /// Memory for files.
    pub cache: CacheConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 80,
            access_log: true,
            metrics: true,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            cache: CacheConfig::default(),
        }
    }
}

/// Bounds on what clients may send and hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most connections at a time; by default as many as three tenths of the memory can hold at rest.
    pub connections: Option<usize>,
    /// Largest request head (request line and header fields), bytes.
    pub header_bytes: usize,
    /// Longest path and query, bytes.
    pub uri_bytes: usize,
    /// Largest request body, bytes. Bodies are read and discarded.
    pub body_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: None, header_bytes: 16384, uri_bytes: 8192, body_bytes: 65536 }
    }
}

/// How long the server waits for clients, seconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// From the first byte of a request head to its last; also from connecting to the first byte.
    pub header_seconds: u32,
    /// For a whole request body.
    pub body_seconds: u32,
    /// Between two requests on a connection.
    pub idle_seconds: u32,
    /// For a client that takes none of its response.
    pub write_seconds: u32,
    /// For requests that are under way when the server is stopped.
    pub drain_seconds: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header_seconds: 10,
            body_seconds: 30,
            idle_seconds: 60,
            write_seconds: 30,
            drain_seconds: 10,
        }
    }
}

/// Memory for files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Bytes for all cached files; by default an eighth of the memory.
    pub total_bytes: Option<usize>,
    /// Largest file that is cached, bytes; larger ones are streamed. By default a quarter of the cache.
    pub file_bytes: Option<usize>,
}

/// Why a configuration is refused: a sentence with the line and what is wrong there.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the configuration is wrong: {}", self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a TOML configuration; empty text gives the defaults.
    ///
    /// # Errors
    /// If the text is no TOML, has an unknown key, or a value is out of its range.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(text)
            .map_err(|error| ConfigError(format!("it is not UTF-8: {error}")))?;
        let config: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(text));
            let line = before.matches('\n').count() + 1;
            ConfigError(format!("line {line}: {}", error.message().replace('\n', ", ")))
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let timeouts = &self.timeouts;
        for (key, value, least, most) in [
            ("port", u64::from(self.port), 1, u64::from(u16::MAX)),
            ("limits.connections", self.limits.connections.unwrap_or(1) as u64, 1, 1 << 20),
            ("limits.header_bytes", self.limits.header_bytes as u64, 8192, 1 << 20),
            ("limits.uri_bytes", self.limits.uri_bytes as u64, 16, 65534),
            ("timeouts.header_seconds", timeouts.header_seconds.into(), 1, DAY_SECONDS),
            ("timeouts.body_seconds", timeouts.body_seconds.into(), 1, DAY_SECONDS),
            ("timeouts.idle_seconds", timeouts.idle_seconds.into(), 1, DAY_SECONDS),
            ("timeouts.write_seconds", timeouts.write_seconds.into(), 1, DAY_SECONDS),
            ("timeouts.drain_seconds", timeouts.drain_seconds.into(), 0, DAY_SECONDS),
        ] {
            if !(least..=most).contains(&value) {
                let message = format!("{key} is {value}, but must be {least} to {most}");
                return Err(ConfigError(message));
            }
        }
        Ok(())
    }
}

const DAY_SECONDS: u64 = 86400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_gives_the_defaults() {
        assert_eq!(Config::parse(b"").unwrap(), Config::default());
    }

    #[test]
    fn keys_are_read() {
        let text =
            b"port = 8080\naccess_log = false\n[limits]\nconnections = 7\n[cache]\nfile_bytes = 1";
        let config = Config::parse(text).unwrap();
        assert_eq!((config.port, config.access_log, config.metrics), (8080, false, true));
        assert_eq!(config.limits.connections, Some(7));
        assert_eq!(config.limits.uri_bytes, Limits::default().uri_bytes);
        assert_eq!(config.cache.file_bytes, Some(1));
    }

    #[test]
    fn mistakes_get_a_sentence() {
        for (text, expect) in [
            ("prot = 1", "line 1: unknown field `prot`, expected one of `port`"),
            ("\n[limits]\nheaders = 1", "line 3: unknown field `headers`"),
            ("port = \"80\"", "line 1: invalid type: string \"80\", expected u16"),
            ("port = 70000", "line 1: invalid value: integer `70000`, expected u16"),
            ("port = 0", "port is 0, but must be 1 to 65535"),
            ("[limits]\nheader_bytes = 10", "limits.header_bytes is 10, but must be 8192 to"),
            ("[timeouts]\nidle_seconds = 0", "timeouts.idle_seconds is 0"),
            ("port = ", "line 1: "),
        ] {
            let message = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(expect), "{text}: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
        assert!(Config::parse(b"\xff").unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn the_example_names_every_key_with_its_default() {
        let example = include_str!("../../../examples/web.toml");
        assert_eq!(Config::parse(example.as_bytes()).unwrap(), Config::default());
        let shown: String =
            example.lines().map(|line| line.strip_prefix("#= ").unwrap_or(line)).collect();
        for key in ["connections", "total_bytes", "file_bytes"] {
            assert!(shown.contains(&format!("{key} = ")), "{key}");
        }
    }
}
