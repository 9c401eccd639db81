use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::model::Secret;

/// What the client's state file says of who is signed in: a name such as `email`, and the value.
///
/// Everything else in the file, such as the history of prompts, is passed over. A text that is no such file says nothing.
pub fn account_values(text: &str) -> Vec<(&'static str, Secret<String>)> {
    let Ok(state) = serde_json::from_str::<State>(text) else { return Vec::new() };
    let mut values = Vec::new();
    let mut add = |name, value: Option<Value>| {
        if let Some(Value::String(value)) = value {
            values.push((name, Secret::new(value)));
        }
    };
    add("device", state.user_id);
    let mut account = state.oauth_account.unwrap_or_default();
    for (key, name) in ACCOUNT {
        add(name, account.remove(*key));
    }
    values
}

#[derive(Default, Deserialize)]
struct State {
    #[serde(default, rename = "userID")]
    user_id: Option<Value>,
    #[serde(default, rename = "oauthAccount")]
    oauth_account: Option<BTreeMap<String, Value>>,
}

/// Keys of `oauthAccount` that name a person or an organisation, and what rules call them. Roles and billing are the
/// same for many.
const ACCOUNT: &[(&str, &str)] = &[
    ("accountUuid", "account"),
    ("displayName", "name"),
    ("emailAddress", "email"),
    ("organizationName", "organization-name"),
    ("organizationUuid", "organization"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_signed_in_is_read_and_nothing_else() {
        let text = r#"{"numStartups":3,"userID":"0f","history":[{"display":"secret prompt"}],
            "oauthAccount":{"emailAddress":"ann@corp.example","accountUuid":"4b1d","organizationRole":"admin","x":1}}"#;

        let values = account_values(text);

        let read: Vec<(&str, &str)> =
            values.iter().map(|(name, value)| (*name, value.expose().as_str())).collect();
        assert_eq!(read, [("device", "0f"), ("account", "4b1d"), ("email", "ann@corp.example")]);
    }

    #[test]
    fn what_is_no_such_file_says_nothing() {
        for text in ["", "[]", "{", r#"{"oauthAccount":null}"#, r#"{"oauthAccount":7}"#, r#"{"userID":7}"#] {
            assert!(account_values(text).is_empty(), "{text}");
        }
    }
}
