//! What must not reach the audit log: password literals, and statements of unbounded length. Works on any text, also on
//! one that no parser takes, and rather masks too much than too little.

use crate::lex::{Kind, Token};

/// Of a statement that is logged; what is longer is cut.
const STATEMENT_BYTES_MAX: usize = 64 << 10;
const MASK: &str = "'***'";
/// Dollar-quoted bodies within bodies that are looked into.
const DEPTH_MAX: u32 = 8;

pub fn statement(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    mask(sql, DEPTH_MAX, &mut text);
    if text.len() > STATEMENT_BYTES_MAX {
        let whole = text.len();
        let end = (0..=STATEMENT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str(&format!(" … [cut by lockkeeper: {whole} bytes in all]"));
    }
    text
}

/// Masks the literal after the word PASSWORD (roles, user mappings) or CONNECTION (subscriptions).
fn mask(sql: &str, depth: u32, out: &mut String) {
    let mut rest = sql;
    let mut secret = false;
    while let Some(token) = Token::first(rest) {
        let text = token.text(rest);
        match token.kind {
            Kind::Space => out.push_str(text),
            Kind::Literal { ambiguous } if secret => {
                out.push_str(MASK);
                if ambiguous {
                    return;
                }
                secret = false;
            }
            Kind::Dollar { tag } if !secret => {
                let (open, body) = text.split_at(tag);
                let (body, close) = body.split_at(body.len().saturating_sub(tag));
                out.push_str(open);
                match depth.checked_sub(1) {
                    Some(depth) => mask(body, depth, out),
                    None => out.push_str("***"),
                }
                out.push_str(close);
            }
            Kind::Dollar { .. } => {
                out.push_str(MASK);
                secret = false;
            }
            Kind::Literal { .. } | Kind::Other => {
                out.push_str(text);
                secret = false;
            }
            Kind::Word => {
                out.push_str(text);
                secret = text.eq_ignore_ascii_case("password") || text.eq_ignore_ascii_case("connection");
            }
        }
        rest = rest.get(token.length..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expect: &str) {
        assert_eq!(statement(sql), expect);
    }

    #[test]
    fn passwords_are_masked() {
        check("ALTER ROLE a PASSWORD 'x'", "ALTER ROLE a PASSWORD '***'");
        check(
            "create user a encrypted password E'x\\'y' login",
            "create user a encrypted password '***' login",
        );
        check(
            "ALTER USER a PASSWORD/* c '/*n*/ */\n'it''s' ; SELECT 'x'",
            "ALTER USER a PASSWORD/* c '/*n*/ */\n'***' ; SELECT 'x'",
        );
        check("ALTER USER a PASSWORD $$x$$ LOGIN", "ALTER USER a PASSWORD '***' LOGIN");
        check("ALTER USER a PASSWORD $q$x$$y$q$", "ALTER USER a PASSWORD '***'");
        check(
            "ALTER USER a PASSWORD U&'x' UESCAPE '!'",
            "ALTER USER a PASSWORD '***' UESCAPE '!'",
        );
        check(
            "DO $b$ BEGIN ALTER ROLE a PASSWORD 'x'; END $b$",
            "DO $b$ BEGIN ALTER ROLE a PASSWORD '***'; END $b$",
        );
        check(
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'b', password 'x')",
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'b', password '***')",
        );
        check(
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=x' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION '***' PUBLICATION p",
        );
    }

    #[test]
    fn an_unclear_end_masks_the_rest() {
        check("ALTER ROLE a PASSWORD 'x\\' y'", "ALTER ROLE a PASSWORD '***'");
        check("ALTER ROLE a PASSWORD 'x", "ALTER ROLE a PASSWORD '***'");
        check("ALTER ROLE a PASSWORD $$x", "ALTER ROLE a PASSWORD '***'");
        check("ALTER ROLE a PASSWORD E'x\\", "ALTER ROLE a PASSWORD '***'");
    }

    #[test]
    fn everything_else_stays() {
        for sql in [
            "",
            "ALTER TABLE t ADD COLUMN password text DEFAULT 'x'",
            "ALTER TABLE t ADD \"password\" text -- password 'x'",
            "SELECT 'password', $1, $2::text, 'ü\n', e'\\'', \"a''b\"",
            "/* password */ 'x' /* open",
            "ALTER ROLE a PASSWORD NULL; SELECT 'x'",
            "$é$ x $é$ -",
        ] {
            check(sql, sql);
        }
    }

    #[test]
    fn a_long_statement_is_cut_between_characters() {
        let text = statement(&"ü".repeat(40_000));
        assert!(text.len() < STATEMENT_BYTES_MAX + 100);
        assert!(
            text.ends_with("ü … [cut by lockkeeper: 80000 bytes in all]"),
            "{}",
            &text[text.len() - 60..]
        );
        assert_eq!(statement(&"x".repeat(STATEMENT_BYTES_MAX)).len(), STATEMENT_BYTES_MAX);
    }

    #[test]
    fn nested_bodies_are_masked_and_end() {
        let mut sql = "ALTER ROLE a PASSWORD 'secret'".to_string();
        for level in 0..100 {
            sql = format!("$t{level}$ {sql} $t{level}$");
        }
        assert!(!statement(&sql).contains("secret"));
    }
}
