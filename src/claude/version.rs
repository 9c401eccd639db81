use crate::model::ClientVersion;

/// The client's version, if a `User-Agent` names it: `claude-code/2.1.329 (…)`, `claude-cli/2.0.14 (external, cli)`.
pub fn client_version(user_agent: &str) -> Option<ClientVersion> {
    let products = user_agent.split_ascii_whitespace();
    let mut versions = products.filter_map(|product| {
        product.strip_prefix("claude-code/").or_else(|| product.strip_prefix("claude-cli/"))
    });
    versions.find_map(|version| version.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_s_names_are_known() {
        let version = |text| client_version(text).map(|version| version.to_string());

        assert_eq!(version("claude-code/2.1.329 (native)").as_deref(), Some("2.1.329"));
        assert_eq!(version("claude-cli/2.0.14 (external, cli)").as_deref(), Some("2.0.14"));
        assert_eq!(version("Mozilla/5.0 claude-code/2.1.37").as_deref(), Some("2.1.37"));
        assert_eq!(version("claude-cli/2.1.0-beta.3 (x)").as_deref(), Some("2.1.0"));
    }

    #[test]
    fn other_programs_have_no_client_version() {
        for text in
            ["", "curl/8.5.0", "claude-code/", "claude-code/2.1", "xclaude-code/1.2.3", "claude-cli/1.2.x"]
        {
            assert_eq!(client_version(text), None, "{text}");
        }
    }
}
