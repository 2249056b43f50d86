//! The table of statement variants (`table.txt`), read.
//!
//! A line `EXPECT  STATEMENT` is a case. Lines `+ SQL` before it are carried out first, straight at the server; lines `& SQL` then in the
//! session that sends the statement. `## …` names the group, `#` is a comment. A line that begins with blanks goes on with the one before.
//! EXPECT is `forward`, `brief`, `steps`, `refuse:RULE` or `error:SQLSTATE`, or several of them with the versions that they are for:
//! `13-17=refuse:validating-foreign-key,18=steps`. A version that is not named has no such case.

#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// The client's own text, forwarded or as one step with a short lock_timeout: what is harmless or brief, and looks it.
    Brief,
    /// The client's own text, without a look at locks.
    Forward,
    /// Carried out in another way.
    Steps,
    Refuse(String),
    /// The server's own error, straight and through the proxy.
    Error(String),
    /// Whatever it is, as long as it is safe: of the rules' own examples.
    Anything,
}

#[derive(Clone, Debug)]
pub struct Case {
    /// Line in the file, for messages.
    pub line: usize,
    pub group: String,
    pub expect: Expect,
    pub setup: Vec<String>,
    pub session: Vec<String>,
    pub sql: String,
    /// A rule, and whether it has something to say.
    pub found_by: Option<(&'static str, bool)>,
}

/// The cases of one version.
pub fn cases(text: &str, major: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    let (mut group, mut setup, mut session) = (String::new(), Vec::new(), Vec::new());
    for (line, text) in joined(text) {
        if let Some(name) = text.strip_prefix("## ") {
            group = name.to_owned();
        } else if let Some(sql) = text.strip_prefix("+ ") {
            setup.push(sql.to_owned());
        } else if let Some(sql) = text.strip_prefix("& ") {
            session.push(sql.to_owned());
        } else {
            let (expect, sql) = text
                .split_once(char::is_whitespace)
                .unwrap_or_else(|| panic!("table.txt:{line}: no statement"));
            let (setup, session) = (std::mem::take(&mut setup), std::mem::take(&mut session));
            if let Some(expect) = expectation(expect, major, line) {
                cases.push(Case {
                    line,
                    group: group.clone(),
                    expect,
                    setup,
                    session,
                    sql: sql.trim().to_owned(),
                    found_by: None,
                });
            }
        }
    }
    cases
}

/// Without comments and empty lines, continuation lines put together.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let comment = line.starts_with('#') && !line.starts_with("## ");
        if line.trim().is_empty() || comment {
            continue;
        }
        match lines.last_mut() {
            Some((_, last)) if line.starts_with(' ') => {
                last.push('\n');
                last.push_str(line.trim());
            }
            _ => lines.push((n + 1, line.to_owned())),
        }
    }
    lines
}

fn expectation(text: &str, major: u32, line: usize) -> Option<Expect> {
    let read = |text: &str| match text.split_once(':') {
        Some(("refuse", rule)) => Expect::Refuse(rule.to_owned()),
        Some(("error", code)) => Expect::Error(code.to_owned()),
        None if text == "brief" => Expect::Brief,
        None if text == "forward" => Expect::Forward,
        None if text == "steps" => Expect::Steps,
        _ => panic!("table.txt:{line}: what is expected by {text:?}?"),
    };
    let Some(_) = text.find('=') else {
        return Some(read(text));
    };
    let number = |text: &str| -> u32 {
        text.parse()
            .unwrap_or_else(|_| panic!("table.txt:{line}: {text:?} is no version"))
    };
    text.split(',').find_map(|part| {
        let (versions, expect) = part
            .split_once('=')
            .unwrap_or_else(|| panic!("table.txt:{line}: {part:?}"));
        let (from, to) = versions.split_once('-').unwrap_or((versions, versions));
        (number(from)..=number(to)).contains(&major).then(|| read(expect))
    })
}
