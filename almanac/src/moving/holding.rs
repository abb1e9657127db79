//! While an export comes in, and before it where one is awaited, nobody acts on what is there.

use almanac_edge::Problem;
use almanac_operations::{Known, Operations};
use almanac_processor::{Ending, Hold};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use tokio::sync::watch;

/// Holds the processors of a process, as the log of operators' events says.
#[derive(Clone)]
pub(crate) struct Holding {
    operations: Arc<Operations>,
    is_awaited: bool,
    is_held: Arc<watch::Sender<bool>>,
}

fn is_held(known: &Known, is_awaited: bool) -> bool {
    known.import().map_or(is_awaited, |import| import.completed.is_none())
}

impl Holding {
    pub(crate) fn new(operations: &Arc<Operations>, is_awaited: bool) -> Self {
        let held = is_held(&operations.known(), is_awaited);
        if held {
            tracing::warn!(
                "held until an import is complete: nothing is fetched, decided, folded or sent, and writes are \
                 refused; `almanac import --from FOLDER` brings an export"
            );
        }
        let is_held = Arc::new(watch::Sender::new(held));
        Self { operations: operations.clone(), is_awaited, is_held }
    }

    pub(crate) fn hold(&self) -> Hold {
        Hold::new(self.is_held.subscribe())
    }

    pub(crate) async fn follow(self) -> Result<(), Ending> {
        let mut changes = self.operations.changes();
        loop {
            let held = is_held(&changes.borrow_and_update(), self.is_awaited);
            let is_news = self.is_held.send_if_modified(|was| std::mem::replace(was, held) != held);
            if is_news {
                tracing::info!(held, "an import holds this process, or lets it go on");
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Before what clients write: it would stand between the records that come.
pub(crate) async fn refuse_writes(
    State(hold): State<Hold>,
    request: Request,
    next: Next,
) -> Response {
    if !request.method().is_safe() && hold.is_held() {
        let detail = "an import is under way, or awaited; writes are taken once it is complete";
        return Problem::busy(detail).into_response();
    }
    next.run(request).await
}
