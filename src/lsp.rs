//! `lockkeeper lsp`: a language server over standard input and output. What `check` says of a file is shown while it is written, with the
//! rule's page at the place, and the safe sequence as a quick fix. Nothing is run, and no server is asked.
//!
//! Start at [`run`].

mod document;
mod replies;

use document::Document;
use lsp_server::{Connection, ErrorCode, Message, Notification, Request, Response};
use lsp_types::notification::{
    DidChangeTextDocument, DidCloseTextDocument, DidOpenTextDocument, DidSaveTextDocument, Notification as _,
    PublishDiagnostics,
};
use lsp_types::request::{CodeActionRequest, HoverRequest, Request as _};
use lsp_types::{
    CodeActionKind, CodeActionOptions, CodeActionProviderCapability, HoverProviderCapability, InitializeResult,
    PublishDiagnosticsParams, SaveOptions, ServerCapabilities, ServerInfo, TextDocumentSyncCapability,
    TextDocumentSyncKind, TextDocumentSyncOptions, TextDocumentSyncSaveOptions, Uri,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Until the client says `exit`, or closes the input.
pub fn run() -> Result<(), String> {
    let (connection, threads) = Connection::stdio();
    let served = serve(&connection);
    // Its threads end when nothing can be sent any more.
    drop(connection);
    served?;
    threads.join().map_err(|error| error.to_string())
}

fn serve(connection: &Connection) -> Result<(), String> {
    let (id, _) = connection.initialize_start().map_err(|error| error.to_string())?;
    let result = InitializeResult {
        capabilities: capabilities(),
        server_info: Some(ServerInfo {
            name: "lockkeeper".to_owned(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        }),
    };
    let result = serde_json::to_value(result).map_err(|error| error.to_string())?;
    connection
        .initialize_finish(id, result)
        .map_err(|error| error.to_string())?;
    let mut server = Server {
        connection,
        documents: BTreeMap::new(),
    };
    for message in &connection.receiver {
        match message {
            Message::Request(request) => {
                if connection
                    .handle_shutdown(&request)
                    .map_err(|error| error.to_string())?
                {
                    return Ok(());
                }
                server.catch_up()?;
                let response = server.answer(request);
                server.send(Message::Response(response))?;
            }
            Message::Notification(notification) => server.take_note(notification)?,
            Message::Response(_) => {}
        }
        // Of several changes that came at once only the last is looked at.
        if connection.receiver.is_empty() {
            server.catch_up()?;
        }
    }
    Ok(())
}

fn capabilities() -> ServerCapabilities {
    ServerCapabilities {
        text_document_sync: Some(TextDocumentSyncCapability::Options(TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(TextDocumentSyncKind::FULL),
            save: Some(TextDocumentSyncSaveOptions::SaveOptions(SaveOptions {
                include_text: None,
            })),
            ..TextDocumentSyncOptions::default()
        })),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        code_action_provider: Some(CodeActionProviderCapability::Options(CodeActionOptions {
            code_action_kinds: Some(vec![CodeActionKind::QUICKFIX]),
            ..CodeActionOptions::default()
        })),
        ..ServerCapabilities::default()
    }
}

struct Server<'a> {
    connection: &'a Connection,
    /// By their URIs.
    documents: BTreeMap<String, Document>,
}

impl Server<'_> {
    fn take_note(&mut self, notification: Notification) -> Result<(), String> {
        match notification.method.as_str() {
            DidOpenTextDocument::METHOD => {
                if let Some(opened) = read::<lsp_types::DidOpenTextDocumentParams>(notification.params) {
                    let item = opened.text_document;
                    if let Some(document) = Document::of(&item.uri, &item.language_id, item.text, item.version) {
                        self.documents.insert(item.uri.as_str().to_owned(), document);
                    }
                }
            }
            DidChangeTextDocument::METHOD => {
                if let Some(mut changed) = read::<lsp_types::DidChangeTextDocumentParams>(notification.params)
                    && let Some(document) = self.documents.get_mut(changed.text_document.uri.as_str())
                    && let Some(change) = changed.content_changes.pop()
                {
                    document.change(change.text, changed.text_document.version);
                }
            }
            // The settings, or a file beside it, may be others by now.
            DidSaveTextDocument::METHOD => {
                for document in self.documents.values_mut() {
                    document.is_checked = false;
                }
            }
            DidCloseTextDocument::METHOD => {
                if let Some(closed) = read::<lsp_types::DidCloseTextDocumentParams>(notification.params) {
                    let uri = closed.text_document.uri;
                    if self.documents.remove(uri.as_str()).is_some() {
                        self.publish(uri, Vec::new(), None)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whatever has changed is checked and told.
    fn catch_up(&mut self) -> Result<(), String> {
        let mut told = Vec::new();
        for document in self.documents.values_mut().filter(|document| !document.is_checked) {
            document.check();
            told.push((document.uri.clone(), document.diagnostics(), Some(document.version)));
        }
        for (uri, diagnostics, version) in told {
            self.publish(uri, diagnostics, version)?;
        }
        Ok(())
    }

    fn publish(&self, uri: Uri, diagnostics: Vec<lsp_types::Diagnostic>, version: Option<i32>) -> Result<(), String> {
        let params = PublishDiagnosticsParams {
            uri,
            diagnostics,
            version,
        };
        let notification = Notification::new(PublishDiagnostics::METHOD.to_owned(), params);
        self.send(Message::Notification(notification))
    }

    fn answer(&self, request: Request) -> Response {
        let Request { id, method, params } = request;
        match method.as_str() {
            HoverRequest::METHOD => match read::<lsp_types::HoverParams>(params) {
                Some(asked) => {
                    let at = asked.text_document_position_params;
                    let document = self.documents.get(at.text_document.uri.as_str());
                    Response::new_ok(id, document.and_then(|document| replies::hover(document, at.position)))
                }
                None => invalid(id),
            },
            CodeActionRequest::METHOD => match read::<lsp_types::CodeActionParams>(params) {
                Some(asked) => {
                    let document = self.documents.get(asked.text_document.uri.as_str());
                    Response::new_ok(
                        id,
                        document.map_or(Vec::new(), |document| replies::actions(document, &asked)),
                    )
                }
                None => invalid(id),
            },
            other => {
                let message = format!("lockkeeper: {other} is not served");
                Response::new_err(id, ErrorCode::MethodNotFound as i32, message)
            }
        }
    }

    fn send(&self, message: Message) -> Result<(), String> {
        self.connection.sender.send(message).map_err(|error| error.to_string())
    }
}

fn read<T: DeserializeOwned>(params: serde_json::Value) -> Option<T> {
    serde_json::from_value(params).ok()
}

fn invalid(id: lsp_server::RequestId) -> Response {
    let message = "lockkeeper: the request's parameters cannot be read".to_owned();
    Response::new_err(id, ErrorCode::InvalidParams as i32, message)
}
