//! Who waits for a turn: by rank, and nobody for ever.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::{Place, Rank};

/// After so many others that went before, the first of a lower rank has its turn.
pub const PATIENCE: u32 = 8;

/// By which one that waits is told that it is its turn.
pub type Turn = oneshot::Sender<Place>;

#[derive(Default)]
pub struct Queue {
    /// By rank.
    lines: [Line; 3],
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Turn>,
    /// How many of a higher rank had their turn since the first here could have had it.
    passed_over: u32,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.waiting.is_empty())
    }

    /// How many go before one that comes now.
    pub fn ahead_of(&self, rank: Rank) -> usize {
        let before = self.lines.iter().take(rank as usize + 1);
        before.map(|line| line.waiting.len()).sum()
    }

    /// False if there is no room. Where the last of a lower rank can make room, it does: its turn
    /// never comes.
    pub fn push(&mut self, rank: Rank, turn: Turn, room: usize) -> bool {
        if self.len() >= room {
            for line in &mut self.lines {
                line.waiting.retain(|turn| !turn.is_closed());
            }
        }
        if self.len() >= room {
            let mut lower = self.lines.iter_mut().skip(rank as usize + 1).rev();
            let gives_way = lower.find(|line| !line.waiting.is_empty());
            let Some(line) = gives_way else {
                return false;
            };
            line.waiting.pop_back();
        }
        self.lines[rank as usize].waiting.push_back(turn);
        true
    }

    /// The next whose turn it is.
    pub fn pop(&mut self) -> Option<Turn> {
        let impatient = |line: &Line| line.passed_over >= PATIENCE && !line.waiting.is_empty();
        let first = |line: &Line| !line.waiting.is_empty();
        let next = self
            .lines
            .iter()
            .rposition(impatient)
            .or_else(|| self.lines.iter().position(first))?;
        for line in self.lines.iter_mut().skip(next + 1) {
            let waits = !line.waiting.is_empty();
            line.passed_over = if waits { line.passed_over + 1 } else { 0 };
        }
        let line = self.lines.get_mut(next)?;
        line.passed_over = 0;
        line.waiting.pop_front()
    }

    fn len(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }
}
