//! The configuration file: its keys are the names of the flags.

use super::did_you_mean;
use super::options::Options;
use clap::{CommandFactory, Parser};
use std::path::Path;

impl Options {
    /// Reads a configuration file; the error names the file, the line and, for an unknown key, the nearest valid one.
    pub fn from_file(path: &Path) -> Result<Options, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the configuration file {}: {error}", path.display()))?;
        Options::parse(&text).map_err(|error| format!("{}:{error}", path.display()))
    }

    /// The error starts with the line's number.
    pub(super) fn parse(text: &str) -> Result<Options, String> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            let message = error.message();
            let unknown = message
                .strip_prefix("unknown field `")
                .and_then(|rest| rest.split('`').next());
            match unknown {
                Some(key) => format!("{line}: unknown key `{key}`{}", did_you_mean(key, &keys())),
                None => format!("{line}: {}", message.replace('\n', " ")),
            }
        })
    }
}

fn keys() -> Vec<&'static str> {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }
    let flags = Flags::command();
    let names = flags.get_arguments().filter_map(|argument| argument.get_long());
    // Names of flags are literals; they are leaked once, on the way to an error that ends the program.
    names.map(|name| &*name.to_string().leak()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_names_the_line_and_the_nearest_key() {
        let check = |text: &str, expect: &str| {
            let error = Options::parse(text).expect_err(text);
            assert!(error.contains(expect), "{error}");
        };
        check(
            "upstream = \"a\"\nlisten_ = \"b\"",
            "2: unknown key `listen_`, did you mean `listen`?",
        );
        check(
            "\n\nconnections_max = 1",
            "3: unknown key `connections_max`, did you mean `connections-max`?",
        );
        check(
            "zzzzzzzzz = 1",
            "1: unknown key `zzzzzzzzz`; there are: listen, reuse-port, proxy-protocol-from, upstream",
        );
        check("# c\n[serve]\nlisten = \"a\"", "2: unknown key `serve`");
        check("threads = \"two\"", "1: invalid type: string \"two\"");
        check("threads = -1", "1: invalid value: integer `-1`");
        check("a = 1\nlisten = ", "2: ");
        check("log-format = \"xml\"", "1: unknown variant `xml`");
        check("listen = 1", "1: a text or a list of texts");
        check("threads = 1\nthreads = 2", "2: duplicate key");
    }

    #[test]
    fn every_flag_is_a_key_of_the_file() {
        assert_eq!(keys().len(), 51);
        for key in keys() {
            // No setting is a table: the key is known, its value is not.
            let error = Options::parse(&format!("{key} = {{}}")).expect_err(key);
            assert!(!error.contains("unknown key"), "{error}");
        }
    }
}
