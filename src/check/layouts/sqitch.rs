//! Sqitch: `sqitch.plan` lists the changes in their order, `deploy/<change>.sql` is what each does and `revert/<change>.sql` the way back.
//! psql runs the scripts, which have their own BEGIN and COMMIT.

use super::listed::{Layout, Listed, text, told};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const PLAN: &str = "sqitch.plan";

pub fn read(directory: &Path) -> Result<Layout, String> {
    let path = directory.join(PLAN);
    let plan = Plan::read(&text(&path)?).map_err(|(line, error)| match line {
        0 => told(&path, &error),
        line => format!("cannot read {}:{line}: {error}", path.display()),
    })?;
    let settings = Settings::of(directory);
    let mut layout = Layout::default();
    for change in plan.changes {
        let script = |of: &Path| change.script(of, &settings.extension);
        let deploy = script(&settings.deploy);
        if !deploy.is_file() {
            return Err(told(
                &deploy,
                &format!("there is no such file, and {PLAN} names {}", change.name),
            ));
        }
        layout.files.push(Listed {
            path: deploy,
            back: Some(script(&settings.revert)),
            recorded: Some(format!("{} {} {}", plan.project, change.name, change.nth)),
        });
    }
    Ok(layout)
}

/// What sqitch.conf says of where the scripts are.
struct Settings {
    deploy: PathBuf,
    revert: PathBuf,
    extension: String,
}

impl Settings {
    fn of(directory: &Path) -> Settings {
        let conf = std::fs::read_to_string(directory.join("sqitch.conf")).unwrap_or_default();
        let mut said: HashMap<String, String> = HashMap::new();
        let mut of_core = false;
        for line in conf.lines().map(str::trim) {
            if line.starts_with('[') {
                of_core = line.eq_ignore_ascii_case("[core]");
            } else if let Some((key, value)) = line
                .split_once('=')
                .filter(|_| of_core && !line.starts_with(['#', ';']))
            {
                let value = value.trim().trim_matches('"').to_owned();
                said.insert(key.trim().to_ascii_lowercase(), value);
            }
        }
        let top = said
            .get("top_dir")
            .map_or(directory.to_path_buf(), |top| directory.join(top));
        let at = |key: &str, usual: &str| match said.get(key) {
            Some(own) => directory.join(own),
            None => top.join(usual),
        };
        Settings {
            deploy: at("deploy_dir", "deploy"),
            revert: at("revert_dir", "revert"),
            extension: said.get("extension").cloned().unwrap_or_else(|| "sql".to_owned()),
        }
    }
}

#[derive(Debug)]
struct Plan {
    project: String,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    name: String,
    /// Of those of the same name, counted from 1.
    nth: usize,
    /// Tags between this and where it was reworked: the script of the earlier one is called by one of them.
    tags: Vec<String>,
    is_reworked: bool,
}

impl Change {
    fn script(&self, directory: &Path, extension: &str) -> PathBuf {
        let named = |tag: &str| directory.join(format!("{}{tag}.{extension}", self.name));
        if !self.is_reworked {
            return named("");
        }
        let mut by_tag = self.tags.iter().map(|tag| named(&format!("@{tag}")));
        let first = by_tag.clone().next().unwrap_or_else(|| named(""));
        by_tag.find(|path| path.is_file()).unwrap_or(first)
    }
}

impl Plan {
    /// An error with its line; 0 for the whole file.
    fn read(text: &str) -> Result<Plan, (usize, String)> {
        let mut project = None;
        let mut changes: Vec<Change> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let fail = |error: String| (at + 1, error);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(pragma) = line.strip_prefix('%') {
                let (key, value) = pragma.split_once('=').unwrap_or((pragma, ""));
                if key.trim() == "project" {
                    project = Some(value.trim().to_owned());
                }
                continue;
            }
            let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if !is_planned(rest) {
                return Err(fail(
                    "a line is `name [dependencies] time planner <mail>`, or `@tag time planner <mail>`".to_owned(),
                ));
            }
            if let Some(tag) = name.strip_prefix('@') {
                for change in &mut changes {
                    if !change.is_reworked {
                        change.tags.push(tag.to_owned());
                    }
                }
                continue;
            }
            if name.starts_with('-') {
                return Err(fail("a change that reverts another (`-name`) is not read".to_owned()));
            }
            let name = name.trim_start_matches('+');
            let mut nth = 1;
            for earlier in changes.iter_mut().filter(|earlier| earlier.name == name) {
                if !earlier.is_reworked && earlier.tags.is_empty() {
                    return Err(fail(format!("{name} is there twice without a tag in between")));
                }
                earlier.is_reworked = true;
                nth += 1;
            }
            changes.push(Change {
                name: name.to_owned(),
                nth,
                tags: Vec::new(),
                is_reworked: false,
            });
        }
        match project {
            Some(project) => Ok(Plan { project, changes }),
            None => Err((0, "it has no line `%project=…`".to_owned())),
        }
    }
}

/// Dependencies, the time and who planned it.
fn is_planned(rest: &str) -> bool {
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((_, rest)) => rest.trim_start(),
            None => return false,
        },
        None => rest,
    };
    let rest = rest.split(" #").next().unwrap_or(rest);
    let time = rest.split_whitespace().next().unwrap_or_default();
    let digits = time.bytes().filter(u8::is_ascii_digit).count();
    digits == 14 && time.ends_with('Z') && time.contains('T') && rest.trim_end().ends_with('>') && rest.contains('<')
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY: &str = "2026-01-02T03:04:05Z Ann <ann@example.com>";

    #[test]
    fn a_plan_is_read() {
        let plan = Plan::read(&format!(
            "%syntax-version=1.0.0\n%project=shop\n\n# x\nusers {BY} # first [x]\nsub/pets [users !old] {BY}\n@v1 {BY}\n@v2 {BY}\n+users [users@v1] {BY}\n"
        ))
        .expect("a plan");
        let names: Vec<_> = plan
            .changes
            .iter()
            .map(|change| (change.name.as_str(), change.nth))
            .collect();
        assert_eq!(names, [("users", 1), ("sub/pets", 1), ("users", 2)]);
        assert_eq!(plan.project, "shop");
        assert!(plan.changes[0].is_reworked && plan.changes[0].tags == ["v1", "v2"]);
        assert_eq!(
            plan.changes[0].script(Path::new("d"), "sql"),
            Path::new("d/users@v1.sql")
        );
        assert_eq!(plan.changes[2].script(Path::new("d"), "sql"), Path::new("d/users.sql"));
    }

    #[test]
    fn what_is_no_plan_is_told_with_its_line() {
        let check = |text: &str, line: usize| assert_eq!(Plan::read(text).expect_err(text).0, line, "{text}");
        check(&format!("users {BY}"), 0);
        check("%project=a\nusers", 2);
        check("%project=a\nusers [x 2026-01-02T03:04:05Z Ann <a@b>", 2);
        check(&format!("%project=a\nusers {BY}\nusers {BY}"), 3);
        check(&format!("%project=a\n-users {BY}"), 2);
    }
}
