//! What is answered: the page of a rule, and the safe sequence in the place of a statement.

use super::document::Document;
use crate::check::page_of_own;
use crate::rules_page;
use lsp_types::{
    CodeAction, CodeActionKind, CodeActionOrCommand, CodeActionParams, Hover, HoverContents, MarkupContent, MarkupKind,
    Position, Range, TextEdit, WorkspaceEdit,
};
use std::collections::HashMap;

/// The rules that found what stands there, each with its page.
pub fn hover(document: &Document, at: Position) -> Option<Hover> {
    let mut pages: Vec<String> = Vec::new();
    let mut place: Option<Range> = None;
    for found in document.kept.said.iter().flat_map(|said| &said.findings) {
        let range = document.range(&found.span);
        if !(range.start <= at && at <= range.end) {
            continue;
        }
        let page = rules_page::page(&found.rule).ok().or_else(|| page_of_own(&found.rule));
        if let Some(page) = page.filter(|page| !pages.contains(page)) {
            pages.push(page);
            place.get_or_insert(range);
        }
    }
    Some(Hover {
        contents: HoverContents::Markup(MarkupContent {
            kind: MarkupKind::Markdown,
            value: (!pages.is_empty()).then(|| pages.join("\n\n---\n\n"))?,
        }),
        range: place,
    })
}

/// For statements that the range touches.
pub fn actions(document: &Document, asked: &CodeActionParams) -> Vec<CodeActionOrCommand> {
    let wanted = asked.context.only.as_ref();
    if wanted.is_some_and(|only| {
        !only
            .iter()
            .any(|kind| CodeActionKind::QUICKFIX.as_str().starts_with(kind.as_str()))
    }) {
        return Vec::new();
    }
    let mut actions = Vec::new();
    for said in &document.kept.said {
        let Some(statement) = said.statement.clone().filter(|_| !said.steps.is_empty()) else {
            continue;
        };
        let range = document.range(&statement);
        if range.end < asked.range.start || asked.range.end < range.start {
            continue;
        }
        let rules: Vec<&str> = said.findings.iter().map(|found| found.rule.as_str()).collect();
        let is_of_it = |diagnostic: &&lsp_types::Diagnostic| {
            let within = range.start <= diagnostic.range.start && diagnostic.range.end <= range.end;
            let of_rule = match &diagnostic.code {
                Some(lsp_types::NumberOrString::String(code)) => rules.contains(&code.as_str()),
                _ => false,
            };
            within && of_rule && diagnostic.source.as_deref() == Some("lockkeeper")
        };
        let edit = TextEdit {
            range,
            new_text: sequence(&said.steps, document.text.get(statement.end..).unwrap_or_default()),
        };
        // The URI is a key of the protocol's own form.
        #[allow(clippy::mutable_key_type)]
        let changes = HashMap::from([(document.uri.clone(), vec![edit])]);
        actions.push(CodeActionOrCommand::CodeAction(CodeAction {
            title: "Write the safe sequence instead".to_owned(),
            kind: Some(CodeActionKind::QUICKFIX),
            diagnostics: Some(asked.context.diagnostics.iter().filter(is_of_it).cloned().collect()),
            edit: Some(WorkspaceEdit {
                changes: Some(changes),
                ..WorkspaceEdit::default()
            }),
            is_preferred: Some(true),
            ..CodeAction::default()
        }));
    }
    actions
}

/// The last statement has the semicolon of the one that it replaces, if that has one.
fn sequence(steps: &[String], behind: &str) -> String {
    let steps = steps.iter().map(|sql| sql.trim_end().trim_end_matches(';'));
    let text = steps.collect::<Vec<_>>().join(";\n");
    match behind.trim_start().starts_with(';') {
        true => text,
        false => format!("{text};"),
    }
}
