//! What the audited client was told: switches, how their values count, and where each came from. Worked out by `claude`,
//! kept by `audit`, judged by `compliance`.

use serde::{Deserialize, Serialize};

use crate::model::{ClientVersion, ParseWordError};

crate::model::decision::words! {
    /// How a switch's value counts.
    ValueRule {
        /// On for `1`, `true`, `yes`, `on` in any case, and for nothing else.
        Boolean = "boolean",
        /// On unless it is `0`, `false`, `no` or `off`, also when it is not set.
        DefaultOn = "default-on",
        /// On for any value, `0` and `false` included.
        Presence = "presence",
        /// On for any value but `0`, `false`, `no`, `off` and `none`: a list of exporters, a folder.
        Setting = "setting",
    }
}

crate::model::decision::words! {
    /// What a switch comes to.
    SwitchState {
        /// It is set, and what it stands for is not in force.
        Off = "off",
        /// What it stands for is in force.
        On = "on",
        /// It is not set. The empty text counts as that.
        Unset = "unset",
    }
}

crate::model::decision::words! {
    /// Where a value was said. Declared from the strongest to the weakest.
    SwitchLayer {
        /// The administrator's settings file.
        Managed = "managed",
        /// The client's own command line (`--settings`).
        CommandLine = "command-line",
        /// `.claude/settings.local.json` of the project.
        Local = "local",
        /// `.claude/settings.json` of the project.
        Project = "project",
        /// `settings.json` in the client's own folder.
        User = "user",
        /// The environment that the client was started with.
        Process = "process",
        /// Given to plainsight, which was not there when the client was started.
        Assumed = "assumed",
    }
}

crate::model::decision::words! {
    /// Who answers the conversation.
    Provider {
        /// The vendor itself.
        Anthropic = "anthropic",
        /// Amazon Bedrock.
        Bedrock = "bedrock",
        /// Microsoft Foundry.
        Foundry = "foundry",
        /// Another host, by base URL.
        Gateway = "gateway",
        /// Google Vertex AI.
        Vertex = "vertex",
    }
}

impl ValueRule {
    /// What `value` comes to.
    pub fn state(self, value: Option<&str>) -> SwitchState {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return match self {
                Self::DefaultOn => SwitchState::On,
                Self::Boolean | Self::Presence | Self::Setting => SwitchState::Unset,
            };
        };
        let is_on = match self {
            Self::Boolean => is_one_of(value, &YES),
            Self::DefaultOn => !is_one_of(value, &NO),
            Self::Presence => true,
            Self::Setting => !is_one_of(value, &NO) && !value.eq_ignore_ascii_case("none"),
        };
        if is_on { SwitchState::On } else { SwitchState::Off }
    }

    /// Says so if `value` does not mean what it looks like.
    pub fn misreading(self, value: &str) -> Option<&'static str> {
        if value.is_empty() {
            return Some("the empty text is the same as not set");
        }
        match self {
            Self::Presence if is_one_of(value, &NO) => Some("looks off, and is on: any value counts"),
            Self::Boolean if !is_one_of(value, &YES) && !is_one_of(value, &NO) => {
                Some("looks on, and is off: only 1, true, yes and on count")
            }
            Self::DefaultOn if !is_one_of(value, &YES) && !is_one_of(value, &NO) => {
                Some("is on: only 0, false, no and off turn it off")
            }
            _ => None,
        }
    }
}

fn is_one_of(value: &str, words: &[&str]) -> bool {
    words.iter().any(|word| value.trim().eq_ignore_ascii_case(word))
}

const YES: [&str; 4] = ["1", "true", "yes", "on"];
const NO: [&str; 4] = ["0", "false", "no", "off"];

/// A switch that is known: its name, and how its value counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchRule {
    /// The variable.
    pub name: Box<str>,
    /// How its value counts.
    pub value: ValueRule,
}

/// One value that was said for a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSetting {
    /// Where it was said.
    pub layer: SwitchLayer,
    /// The file, as far as it says nothing of the person: `~/.claude/settings.json`.
    pub file: Option<Box<str>>,
    /// The value, if it is one that a switch has. What may be anything else is not kept.
    pub value: Option<Box<str>>,
}

/// A switch as it reached the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveSwitch {
    /// The variable.
    pub name: Box<str>,
    /// What it comes to.
    pub state: SwitchState,
    /// The value that counts.
    pub setting: SwitchSetting,
    /// Values that do not count because a stronger layer says another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<SwitchSetting>,
    /// Says so if the value does not mean what it looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misreading: Option<Box<str>>,
}

/// What the client was told, as far as it decides what is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveSwitches {
    /// Who answers the conversation.
    pub provider: Provider,
    /// The host of the conversation, when a base URL names one.
    #[serde(default)]
    pub conversation_host: Option<Box<str>>,
    /// The client's version, as its program says it.
    #[serde(default)]
    pub client_version: Option<ClientVersion>,
    /// The switches that are set, by name.
    pub switches: Vec<EffectiveSwitch>,
    /// What the client could send without our seeing it, in words.
    #[serde(default)]
    pub bypasses: Vec<Box<str>>,
}

impl EffectiveSwitches {
    /// Nothing was told: defaults everywhere.
    pub const fn none() -> Self {
        Self {
            provider: Provider::Anthropic,
            conversation_host: None,
            client_version: None,
            switches: Vec::new(),
            bypasses: Vec::new(),
        }
    }

    /// The switch, if it is set.
    pub fn switch(&self, name: &str) -> Option<&EffectiveSwitch> {
        self.switches.iter().find(|switch| &*switch.name == name)
    }

    /// What `rule`'s switch comes to.
    pub fn state(&self, rule: &SwitchRule) -> SwitchState {
        self.switch(&rule.name).map_or_else(|| rule.value.state(None), |switch| switch.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_counts_any_value_and_a_boolean_only_four_words() {
        use SwitchState::{Off, On, Unset};
        for (rule, value, expected) in [
            (ValueRule::Presence, "1", On),
            (ValueRule::Presence, "0", On),
            (ValueRule::Presence, "false", On),
            (ValueRule::Presence, "", Unset),
            (ValueRule::Boolean, "YES", On),
            (ValueRule::Boolean, "on", On),
            (ValueRule::Boolean, "0", Off),
            (ValueRule::Boolean, "2", Off),
            (ValueRule::Boolean, "", Unset),
            (ValueRule::DefaultOn, "", On),
            (ValueRule::DefaultOn, "false", Off),
            (ValueRule::DefaultOn, "true", On),
            (ValueRule::Setting, "otlp", On),
            (ValueRule::Setting, "none", Off),
        ] {
            assert_eq!(rule.state(Some(value)), expected, "{rule} {value}");
        }
        assert_eq!(ValueRule::Presence.state(None), Unset);
    }

    #[test]
    fn values_that_do_not_mean_what_they_look_like_are_named() {
        assert!(ValueRule::Presence.misreading("0").is_some_and(|why| why.contains("is on")));
        assert!(ValueRule::Boolean.misreading("enabled").is_some_and(|why| why.contains("is off")));
        assert_eq!(ValueRule::Presence.misreading("1"), None);
        assert_eq!(ValueRule::Boolean.misreading("0"), None);
        assert!(ValueRule::Presence.misreading("").is_some());
    }
}
