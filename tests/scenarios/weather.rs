//! What a seed makes likely. Every kind of trouble is absent from some seeds and frequent in others: what only shows
//! without another trouble is found too.

use fastrand::Rng;

/// Probabilities, unless the name has a unit.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// Steps of the storm.
    pub steps: u32,
    /// Calm: nothing goes wrong any more, and nobody interferes.
    pub calm: bool,

    // The host.
    pub blind: f64,
    pub deed: f64,
    pub forks: f64,
    pub escapes: f64,
    pub clears: f64,
    pub leaves: f64,
    pub protects: f64,
    pub stops: f64,
    pub stuck: f64,
    pub setuid: f64,
    pub foreign: f64,
    pub respawns: f64,
    pub oom: f64,
    pub reboot: f64,

    // What is drawn for a process at its start.
    pub ignores_term: f64,
    pub ignores_eof: f64,
    pub slow: f64,
    pub forks_on_term: f64,
    pub mute: f64,
    pub fails_to_start: f64,
    pub fails: f64,
    pub terminals: f64,
    pub garbage: f64,

    // The controller.
    pub crash: f64,
    /// A controller is started from inside one of its own trees.
    pub below: f64,
    pub nested: f64,
    pub gate: f64,
    pub busy: f64,
    pub disk_full: f64,
    pub late_reader: f64,
    /// That a shim has ended is told late.
    pub lost_wakes: f64,

    // People.
    pub people: f64,
    pub cancels: f64,
    pub deletes: f64,
    pub pauses: f64,
}

impl Weather {
    pub fn draw(rng: &mut Rng) -> Weather {
        let mut rate = |small: f64, large: f64| match rng.u8(0..4) {
            0 | 1 => 0.0,
            2 => small,
            _ => large,
        };
        Weather {
            blind: rate(0.05, 0.3),
            deed: rate(0.1, 0.4),
            forks: rate(0.3, 1.0),
            escapes: rate(0.2, 1.0),
            clears: rate(0.2, 0.8),
            leaves: rate(0.2, 0.8),
            protects: rate(0.05, 0.2),
            stops: rate(0.1, 0.5),
            stuck: rate(0.1, 0.5),
            setuid: rate(0.05, 0.2),
            foreign: rate(0.1, 0.4),
            respawns: rate(0.05, 0.2),
            oom: rate(0.01, 0.05),
            reboot: rate(0.002, 0.01),
            ignores_term: rate(0.2, 0.7),
            ignores_eof: rate(0.2, 0.7),
            slow: rate(0.2, 0.7),
            forks_on_term: rate(0.1, 0.5),
            mute: rate(0.05, 0.3),
            fails_to_start: rate(0.02, 0.1),
            fails: rate(0.1, 0.4),
            terminals: rate(0.2, 0.8),
            garbage: rate(0.01, 0.05),
            crash: rate(0.004, 0.03),
            below: rate(0.05, 0.3),
            nested: rate(0.05, 0.3),
            gate: rate(0.02, 0.1),
            busy: rate(0.01, 0.08),
            disk_full: rate(0.02, 0.1),
            late_reader: rate(0.2, 0.7),
            lost_wakes: rate(0.3, 1.0),
            people: rate(0.02, 0.1),
            cancels: rate(0.3, 1.0),
            deletes: rate(0.2, 1.0),
            pauses: rate(0.2, 0.6),
            steps: [60, 120, 200][rng.usize(0..3)],
            calm: false,
        }
    }

    /// After the storm.
    pub fn calm(&self) -> Weather {
        // Those who ignore signals go on doing so: natures do not change.
        Weather { calm: true, ignores_term: self.ignores_term, ignores_eof: self.ignores_eof, ..Weather::default() }
    }
}
