//! Who changes a resource, and who is next.
//!
//! One call at a time tries. Those who come while it does stand behind it, and have their turn in
//! the order in which they came. Only where the first has to wait for a deployment do the bounds
//! hold: the others then wait as long as it does.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::pipeline::subject::Key;

/// The lines before all resources. Clones share them.
#[derive(Clone)]
pub struct Lines {
    /// Most that wait in one line.
    queue: usize,
    /// Most that wait in all lines.
    total: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    lines: HashMap<Key, Line>,
    /// How many stand in lines whose first has to wait, the first included.
    waiting: usize,
    /// How many have come.
    came: u64,
}

struct Line {
    /// Whose turn it is.
    first: u64,
    /// Whether a deployment makes it wait.
    blocked: bool,
    behind: VecDeque<(u64, oneshot::Sender<Turn>)>,
}

/// What somebody in a line is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Yours,
    /// There are too many.
    Never,
}

/// A place in a line, given up when it is dropped.
pub struct Place {
    lines: Lines,
    key: Key,
    number: u64,
    /// Absent for whoever came first.
    turn: Option<oneshot::Receiver<Turn>>,
}

impl Lines {
    pub fn new(queue: usize, total: usize) -> Self {
        Self {
            queue,
            total,
            state: Arc::default(),
        }
    }

    /// Takes the last place in the line before `key`; absent where there is none left.
    pub fn enter(&self, key: Key) -> Option<Place> {
        let mut state = self.state();
        state.came += 1;
        let (number, waiting) = (state.came, state.waiting);
        let turn = match state.lines.get_mut(&key) {
            Some(line) => {
                let full = waiting >= self.total || 1 + line.behind.len() >= self.queue;
                if line.blocked && full {
                    return None;
                }
                let (tell, told) = oneshot::channel();
                line.behind.push_back((number, tell));
                state.waiting += usize::from(line.blocked);
                Some(told)
            }
            None => {
                let line = Line {
                    first: number,
                    blocked: false,
                    behind: VecDeque::new(),
                };
                state.lines.insert(key.clone(), line);
                None
            }
        };
        drop(state);
        Some(Place {
            lines: self.clone(),
            key,
            number,
            turn,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.lines.is_empty() && state.waiting == 0
    }
}

impl Place {
    /// Whether nobody stood before it when it came.
    pub fn is_first(&self) -> bool {
        self.turn.is_none()
    }

    /// Waits until it is this one's turn.
    pub async fn turn(&mut self) -> Turn {
        match self.turn.take() {
            // Its sender is dropped only with the line itself.
            Some(turn) => turn.await.unwrap_or(Turn::Never),
            None => Turn::Yours,
        }
    }

    /// Lets the line wait, whose first this one is. Those for whom there is no room are told.
    /// Whether there is room for the first.
    pub fn block(&self) -> bool {
        let mut state = self.lines.state();
        let left = self.lines.total.saturating_sub(state.waiting);
        let Some(line) = state.lines.get_mut(&self.key) else {
            return false;
        };
        if line.blocked {
            return true;
        }
        let Some(room) = left.min(self.lines.queue).checked_sub(1) else {
            return false;
        };
        let kept = room.min(line.behind.len());
        for (_, tell) in line.behind.drain(kept..) {
            // It may have gone away.
            let _ = tell.send(Turn::Never);
        }
        line.blocked = true;
        state.waiting += 1 + kept;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.lines.state();
        let State { lines, waiting, .. } = &mut *state;
        let Some(line) = lines.get_mut(&self.key) else {
            return;
        };
        if line.first != self.number {
            let before = line.behind.len();
            line.behind.retain(|(number, _)| *number != self.number);
            if line.blocked {
                *waiting -= before - line.behind.len();
            }
            return;
        }
        if std::mem::take(&mut line.blocked) {
            *waiting -= 1 + line.behind.len();
        }
        while let Some((number, tell)) = line.behind.pop_front() {
            // Before it is told: it may go away at once.
            line.first = number;
            if tell.send(Turn::Yours).is_ok() {
                return;
            }
        }
        lines.remove(&self.key);
    }
}
