//! What the agent asks of us, and our answers.
//!
//! An answer may be given twice to the world, though once to the agent: a controller that dies between doing and answering
//! does it again. Everything here can stand that: reads, whole-file writes, and terminals with a fixed id.

use crate::acp::message::error;
use crate::acp::session::{Call, Replay};
use crate::acp::{DriverConfig, Turn, Wanted, fs, permission, terminal};
use agent_client_protocol_schema::v1::{
    CLIENT_METHOD_NAMES as CLIENT, CreateTerminalRequest, CreateTerminalResponse, Error, ErrorCode,
    KillTerminalRequest, KillTerminalResponse, ReadTextFileRequest, ReadTextFileResponse, ReleaseTerminalRequest,
    ReleaseTerminalResponse, RequestPermissionRequest, SessionId, TerminalId, TerminalOutputRequest,
    WaitForTerminalExitRequest, WaitForTerminalExitResponse, WriteTextFileRequest, WriteTextFileResponse,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::path::PathBuf;

/// The answer; `None`: not yet (a process that is waited for still runs).
pub(crate) fn answer(
    call: &Call,
    replay: &Replay,
    wanted: &Wanted,
    config: &DriverConfig,
) -> Option<Result<Value, Error>> {
    let agent = Asked { call, replay, wanted, config };
    let method = call.method.as_str();
    Some(if method == CLIENT.session_request_permission {
        agent.permission()
    } else if method == CLIENT.fs_read_text_file {
        agent.read()
    } else if method == CLIENT.fs_write_text_file {
        agent.write()
    } else if method == CLIENT.terminal_create {
        agent.create()
    } else if method == CLIENT.terminal_output {
        agent.output()
    } else if method == CLIENT.terminal_wait_for_exit {
        return agent.wait().transpose();
    } else if method == CLIENT.terminal_kill {
        agent.kill()
    } else if method == CLIENT.terminal_release {
        agent.release()
    } else {
        Err(error(ErrorCode::MethodNotFound, format!("tenure does not know the method `{method}`")))
    })
}

struct Asked<'a> {
    call: &'a Call,
    replay: &'a Replay,
    wanted: &'a Wanted,
    config: &'a DriverConfig,
}

impl Asked<'_> {
    fn permission(&self) -> Result<Value, Error> {
        let request: RequestPermissionRequest = self.params()?;
        let turn = self.turn(&request.session_id);
        let being_cancelled = self.wanted.closing || turn.is_err();
        let own = turn.ok().and_then(|turn| turn.permissions);
        reply(permission::answer(own.unwrap_or(self.config.permissions), being_cancelled, &request.options))
    }

    fn read(&self) -> Result<Value, Error> {
        let request: ReadTextFileRequest = self.params()?;
        let roots = self.roots(&request.session_id)?;
        reply(ReadTextFileResponse::new(fs::read(&roots, &request.path, request.line, request.limit)?))
    }

    fn write(&self) -> Result<Value, Error> {
        let request: WriteTextFileRequest = self.params()?;
        fs::write(&self.roots(&request.session_id)?, &request.path, &request.content)?;
        reply(WriteTextFileResponse::new())
    }

    /// The answer itself, once it stands in `stdin`, is what makes the terminal wanted.
    fn create(&self) -> Result<Value, Error> {
        let request: CreateTerminalRequest = self.params()?;
        let roots = self.roots(&request.session_id)?;
        if let Some(cwd) = &request.cwd {
            fs::directory(&roots, cwd)?;
        }
        if self.wanted.closing {
            return Err(error(ErrorCode::InvalidRequest, "the agent is being stopped: nothing is started any more"));
        }
        reply(CreateTerminalResponse::new(self.replay.terminal_uid(self.call).0))
    }

    fn output(&self) -> Result<Value, Error> {
        let request: TerminalOutputRequest = self.params()?;
        let (dir, limit) = self.terminal(&request.terminal_id)?;
        let output = terminal::output(&dir, limit).map_err(|cause| {
            error(ErrorCode::InternalError, format!("failed to read the output in {}: {cause}", dir.display()))
        })?;
        reply(output)
    }

    fn wait(&self) -> Result<Option<Value>, Error> {
        let request: WaitForTerminalExitRequest = self.params()?;
        let (dir, _) = self.terminal(&request.terminal_id)?;
        let exit = terminal::exit(&dir);
        exit.map(|exit| reply(WaitForTerminalExitResponse::new(terminal::status(&exit)))).transpose()
    }

    fn kill(&self) -> Result<Value, Error> {
        let request: KillTerminalRequest = self.params()?;
        self.terminal(&request.terminal_id)?;
        reply(KillTerminalResponse::new())
    }

    fn release(&self) -> Result<Value, Error> {
        let request: ReleaseTerminalRequest = self.params()?;
        self.terminal(&request.terminal_id)?;
        reply(ReleaseTerminalResponse::new())
    }

    fn params<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_value(self.call.params.clone())
            .map_err(|cause| error(ErrorCode::InvalidParams, format!("`{}`: {cause}", self.call.method)))
    }

    /// The wanted turn that asks.
    fn turn(&self, session: &SessionId) -> Result<&Turn, Error> {
        let run = self.call.run.as_ref();
        let turn = run.and_then(|run| self.wanted.turns.iter().find(|turn| turn.run == *run));
        turn.ok_or_else(|| {
            error(
                ErrorCode::InvalidParams,
                format!("the session {} is not known, or is being closed, or has no turn that is wanted", session.0),
            )
        })
    }

    fn roots(&self, session: &SessionId) -> Result<Vec<PathBuf>, Error> {
        let turn = self.turn(session)?;
        Ok(std::iter::once(&turn.cwd).chain(&turn.allowed_paths).cloned().collect())
    }

    /// Where the files of a terminal are, and the limit of its output.
    fn terminal(&self, id: &TerminalId) -> Result<(PathBuf, Option<u64>), Error> {
        match self.replay.terminal(&id.0) {
            Some((wanted, limit)) => Ok(((self.config.terminal_dir)(&wanted.id), limit)),
            None => {
                let message = format!("the terminal {} is not known, or was released", id.0);
                Err(error(ErrorCode::ResourceNotFound, message))
            }
        }
    }
}

fn reply(response: impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(response).map_err(|cause| error(ErrorCode::InternalError, cause.to_string()))
}
