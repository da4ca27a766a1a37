//! `trialog config explain`: what a setting is, without a broker.

use serde_json::json;

use trialog_engine::config::kafka::Meaning;
use trialog_engine::config::{self, ConfigError, Key};

use super::cli::Config;
use super::failure::Failure;
use super::output::Output;

/// Does what was asked for with settings.
pub fn run(command: Config, output: &mut Output) -> Result<(), Failure> {
    let Config::Explain { key } = command;
    let of_broker = config::broker::find(&key);
    let of_topic = config::topic::key_of(&key);
    let levels = [("broker", of_broker.clone().ok()), ("topic", of_topic.clone().ok())];
    let found: Vec<(&str, &Key)> =
        levels.into_iter().filter_map(|(level, key)| Some((level, key?))).collect();
    if found.is_empty() {
        if let Some(meaning) = config::kafka::meaning(key.trim()) {
            return foreign(key.trim(), meaning, output);
        }
        // The broker's table knows of the topics' keys that mean the same.
        match of_broker {
            Err(ConfigError::Unknown { nearest: None, .. }) => of_topic?,
            other => other?,
        };
    }
    for (number, (level, key)) in found.into_iter().enumerate() {
        let synonyms = match level {
            "topic" => config::topic::synonyms(key.name),
            _ => Vec::new(),
        };
        let json = json!({
            "key": key.name,
            "level": level,
            "takes": key.kind.to_string(),
            "default": key.default,
            "doc": key.doc,
            "broker_keys": synonyms,
        });
        if number > 0 {
            output.remark("")?;
        }
        output.line(&explained(level, key, &synonyms), &json)?;
    }
    Ok(())
}

/// What a key of Kafka's means that is none of this broker's.
fn foreign(key: &str, meaning: Meaning, output: &mut Output) -> Result<(), Failure> {
    let (effect, because, said) = match meaning {
        Meaning::NoEffect(because) => ("none", because, "No effect here".to_owned()),
        Meaning::Refused { because, unless } => {
            let unless = match unless {
                [] => String::new(),
                values => format!(" unless it is {}", values.join(" or ")),
            };
            ("refused", because, format!("No broker starts with it{unless}"))
        }
        Meaning::Alias(own) => {
            let json = json!({ "key": key, "level": "kafka", "effect": "alias", "of": own });
            return output.line(&format!("{key} (Kafka's)\n  Another name of {own}."), &json);
        }
    };
    let json = json!({ "key": key, "level": "kafka", "effect": effect, "because": because });
    output.line(&format!("{key} (Kafka's)\n  {said}, because {because}."), &json)
}

fn explained(level: &str, key: &Key, synonyms: &[&str]) -> String {
    let default = match (key.default, synonyms) {
        (Some(default), _) => default.to_owned(),
        (None, []) => "none; another key then decides".to_owned(),
        (None, synonyms) => format!("the broker's {}", synonyms.join(", then ")),
    };
    let change = match level {
        "topic" => format!("trialog topic alter TOPIC --set {}=VALUE", key.name),
        _ => format!("trialog serve --set {}=VALUE", key.name),
    };
    format!(
        "{} (of a {level})\n  {}\n  takes    {}\n  default  {default}\n  change   {change}",
        key.name, key.doc, key.kind
    )
}
