//! One simulated world, from its seed to its end: a storm, then calm, and what must hold all along.
//!
//! Everything happens on one thread, and in an order that the seed draws. Code of the product runs as it is; whenever it
//! reaches for the store or for the edge of the world, other things may happen first: processes move, people interfere,
//! another act runs, a whole pass is made in the middle of an act, or the controller dies (by unwinding, so that not one more
//! of its effects takes place).

use crate::controller::Mind;
use crate::host::Host;
use crate::memory::Memory;
use crate::rules::Books;
use crate::weather::Weather;
use fastrand::Rng;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

/// How many rounds a world may take to come to rest.
const PATIENCE: u32 = 600;

/// The controller dies: this is what unwinds.
pub struct Crash;

/// A rule was broken: this is what unwinds.
pub struct Broken(pub String);

/// All there is.
pub struct It {
    pub rng: Rng,
    pub weather: Weather,
    pub host: Host,
    pub store: Memory,
    pub mind: Mind,
    pub books: Books,
    pub tokens: u64,
    pub lease_ms: i64,
    /// Until when the manifest directory cannot be read.
    pub gate_closed_until: i64,
    /// The last steps, if somebody wants to read them.
    trace: Option<Vec<String>>,
    /// A hash over all steps, so that two runs can be compared.
    pub steps: u64,
}

/// One world.
pub struct Sim(Mutex<It>);

/// How a world ended.
pub struct Report {
    pub broken: Option<String>,
    pub trace: Vec<String>,
    pub steps: u64,
    pub counts: Counts,
}

/// What happened in it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub passes: u64,
    pub acts: u64,
    pub crashes: u64,
    pub signals: u64,
    pub starts: u64,
    pub outcomes: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passes += other.passes;
        self.acts += other.acts;
        self.crashes += other.crashes;
        self.signals += other.signals;
        self.starts += other.starts;
        self.outcomes += other.outcomes;
    }
}

impl It {
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.f64() < probability
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let at = self.rng.usize(0..from.len());
        from.get(at).cloned()
    }

    /// One step of the trace. Put into words only for those who read it.
    pub fn say(&mut self, what: impl FnOnce() -> String) {
        self.steps += 1;
        let now = self.host.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>8} {}", what()));
        }
    }

    /// A rule is broken.
    pub fn broken(&mut self, what: String) -> ! {
        panic::resume_unwind(Box::new(Broken(what)))
    }
}

impl Sim {
    fn new(seed: u64, tracing: bool) -> Sim {
        // Neighbouring seeds give unlike worlds.
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66);
        let weather = Weather::draw(&mut rng);
        let user = if rng.u8(0..3) == 0 { 1000 } else { 0 };
        let pids = rng.i32(80..200);
        let host = Host::new(rng.bool(), user, pids);
        let lease_ms = [0, 2_000, 10_000, 300_000][rng.usize(0..4)];
        let mut it = It {
            rng,
            weather,
            host,
            store: Memory::default(),
            mind: Mind::default(),
            books: Books::default(),
            tokens: 0,
            lease_ms,
            gate_closed_until: 0,
            trace: tracing.then(Vec::new),
            steps: 0,
        };
        it.neighbours();
        it.furnish();
        Sim(Mutex::new(it))
    }

    pub fn with<R>(&self, f: impl FnOnce(&mut It) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        self.with(|it| it.say(what));
    }

    /// The world moves: while something is read, or between two steps of an effect.
    pub fn moves(&self, _where: &str) {
        self.with(|it| {
            if it.weather.calm {
                return;
            }
            let times = [0, 0, 0, 1, 2][it.rng.usize(0..5)];
            for _ in 0..times {
                let ms = if it.rng.u8(0..20) == 0 { it.rng.i64(0..2_000) } else { it.rng.i64(0..15) };
                it.tick(ms);
            }
        });
    }

    /// Between two effects of the controller: anything may happen.
    pub fn meanwhile(self: &Arc<Sim>, place: &str) {
        self.moves(place);
        let (calm, crash, people, nested) = self.with(|it| {
            let weather = it.weather.clone();
            (weather.calm, it.chance(weather.crash), it.chance(weather.people), it.chance(weather.nested))
        });
        if calm {
            return;
        }
        if people {
            self.with(|it| it.people());
        }
        if crash {
            self.crash(place);
        }
        if nested {
            self.nested();
        }
    }

    /// The controller dies here.
    pub fn crash(&self, place: &str) -> ! {
        self.with(|it| {
            it.say(|| format!("the controller dies {place}"));
            it.controller_dies();
        });
        panic::resume_unwind(Box::new(Crash))
    }

    /// One step of the storm.
    fn step(self: &Arc<Sim>) {
        self.moves("between steps");
        let alive = self.with(|it| it.host.controller.is_some());
        let (reboot, gate, people) = self.with(|it| {
            let weather = it.weather.clone();
            (it.chance(weather.reboot), it.chance(weather.gate), it.chance(0.1 + weather.people))
        });
        if reboot {
            self.with(|it| {
                it.say(|| "the host boots anew".into());
                it.controller_dies();
                it.host.boot();
                it.neighbours();
            });
            return;
        }
        if gate {
            self.with(|it| it.gate_closed_until = it.host.now + it.rng.i64(10..3_000));
        }
        if people {
            self.with(|it| it.people());
        }
        if !alive {
            let back = self.with(|it| {
                let longest = if it.rng.u8(0..4) == 0 { 6_000 } else { 50 };
                let ms = it.rng.i64(0..longest);
                it.tick(ms);
                it.rng.bool()
            });
            if back {
                self.with(|it| it.controller_starts());
            }
            return;
        }
        match self.with(|it| it.rng.u8(0..10)) {
            0..=3 => drop(self.pass().is_some()),
            4..=7 => self.run_some_act(),
            8 => {
                let ms = self.with(|it| it.rng.i64(0..500));
                self.with(|it| it.tick(ms));
            }
            _ => self.with(|it| it.resync()),
        }
    }

    fn storm(self: &Arc<Sim>) {
        let steps = self.with(|it| it.weather.steps);
        for _ in 0..steps {
            self.guarded(|| self.step());
        }
    }

    /// Nothing goes wrong any more, and time passes, until nothing changes.
    fn calm(self: &Arc<Sim>) {
        self.with(|it| {
            it.say(|| "calm".into());
            it.weather = it.weather.calm();
            it.gate_closed_until = 0;
            it.settle_people();
            // One that runs below its own workload keeps that alive.
            let parent = it.host.controller.and_then(|pid| it.host.procs.get(&pid)).map(|it| it.parent);
            if parent != Some(3) {
                it.controller_dies();
                it.controller_starts();
            }
        });
        let mut quiet = 0;
        for _ in 0..PATIENCE {
            let rest = self.pass();
            while self.run_an_act() {}
            self.with(|it| it.check_books());
            let Some(at) = rest else {
                quiet = 0;
                continue;
            };
            let changes = self.with(|it| {
                let changes = it.coming();
                let ms = at.into_iter().chain(changes).min().map_or(10_000, |at| (at - it.host.now).clamp(1, 10_000));
                it.tick(ms);
                if ms >= 10_000 || quiet > 0 {
                    it.resync();
                }
                changes.is_some()
            });
            quiet = if changes || at.is_some() { 0 } else { quiet + 1 };
            if quiet >= 3 {
                return self.with(|it| it.check_end());
            }
        }
        self.with(|it| {
            let left = it.in_words();
            it.broken(format!("the world does not come to rest: {left}"))
        });
    }

    /// The controller may die in it.
    fn guarded(self: &Arc<Sim>, step: impl FnOnce()) {
        match panic::catch_unwind(AssertUnwindSafe(step)) {
            Ok(()) => {}
            Err(payload) if payload.is::<Crash>() => {}
            Err(payload) => panic::resume_unwind(payload),
        }
        self.with(|it| it.check_books());
    }
}

/// Runs the world of a seed.
pub fn run(seed: u64, tracing: bool) -> Report {
    let sim = Arc::new(Sim::new(seed, tracing));
    let end = panic::catch_unwind(AssertUnwindSafe(|| {
        sim.storm();
        sim.calm();
    }));
    let broken = end.err().map(|payload| match payload.downcast::<Broken>() {
        Ok(broken) => broken.0,
        Err(other) => match other.downcast::<String>() {
            Ok(text) => format!("panic: {text}"),
            Err(_) => "panic".to_owned(),
        },
    });
    sim.with(|it| Report {
        broken: broken.clone(),
        trace: it.trace.take().unwrap_or_default(),
        steps: it.steps,
        counts: it.books.counts,
    })
}
