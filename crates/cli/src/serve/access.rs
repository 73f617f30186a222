//! The flags about who asks over HTTP, and about what is measured: as etcd has them. Must not know
//! what a request asks for.

use quorate_server::ServerOptions;

/// See the module.
#[derive(Debug, clap::Args)]
pub(crate) struct AccessFlags {
    /// The origins of pages whose scripts may read what the gateway answers; any by default
    #[arg(long, value_delimiter = ',', value_name = "ORIGIN,...", value_parser = parse_origin)]
    cors: Vec<String>,
    /// The hosts that HTTP requests without TLS may name, against pages that reach this node through
    /// a browser under a name of their own; any by default
    #[arg(long, value_delimiter = ',', value_name = "HOST,...", value_parser = parse_host)]
    host_whitelist: Vec<String>,
    /// What /metrics tells: `basic`, or `extensive`, which says of each method how long its calls
    /// took, too
    #[arg(long, default_value = BASIC, value_name = "LEVEL")]
    metrics: String,
}

/// What /metrics may tell.
const BASIC: &str = "basic";
const EXTENSIVE: &str = "extensive";

impl AccessFlags {
    /// The same options with these.
    pub(super) fn apply_to(&self, options: ServerOptions) -> ServerOptions {
        ServerOptions {
            cors_origins: self.cors.clone(),
            host_whitelist: self.host_whitelist.clone(),
            measures_calls: self.metrics == EXTENSIVE,
            ..options
        }
    }

    /// What /metrics should tell, if there is no such thing: as in etcd, it tells what it does always.
    pub(super) fn unknown_metrics(&self) -> Option<&str> {
        Some(self.metrics.as_str()).filter(|level| ![BASIC, EXTENSIVE].contains(level))
    }
}

/// An origin as browsers write it.
fn parse_origin(text: &str) -> Result<String, String> {
    let is_host = |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*']);
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if text == "*" || host.is_some_and(is_host) {
        return Ok(text.to_owned());
    }
    Err(format!("expected `*`, or an origin such as https://pages.example, found `{text}`"))
}

/// A host without a port: clients' ports are no matter of trust.
fn parse_host(text: &str) -> Result<String, String> {
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if is_address || (!text.is_empty() && !text.contains([':', '/', ' '])) {
        return Ok(text.to_owned());
    }
    Err(format!("expected `*`, a name or an address without a port, found `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_behind_them() {
        for right in ["*", "http://a", "https://a.example:8443"] {
            assert_eq!(parse_origin(right).as_deref(), Ok(right));
        }
        for wrong in ["", "a.example", "https://", "https://a/", "https://*.a", "ftp://a"] {
            assert!(parse_origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_has_no_port() {
        for right in ["*", "a.example", "127.0.0.1", "::1"] {
            assert_eq!(parse_host(right).as_deref(), Ok(right));
        }
        for wrong in ["", "a:1", "http://a", "[::1]", "a b"] {
            assert!(parse_host(wrong).is_err(), "{wrong}");
        }
    }
}
