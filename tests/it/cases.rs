//! The cases that define tenure: however a job ends, or goes, afterwards there is no process of it, and a neighbour that
//! still runs keeps its own. Each with the fake agent and with the real adapter.

use crate::support::agent::{Agent, Turn};
use crate::support::{Traces, World, wait_for};

/// A world with the agent's class, and with a neighbour: a job that goes on, with an adapter of its own in mid-turn.
struct Stage {
    world: World,
    agent: Agent,
    neighbour: Traces,
}

impl Stage {
    fn new(agent: Agent) -> Stage {
        Stage::with(agent, World::new())
    }

    fn with(agent: Agent, world: World) -> Stage {
        agent.install(&world, "");
        let mut stage = Stage { world, agent, neighbour: Traces::default() };
        stage.run_flow("neighbour", &stage.agent_step("hold", &Turn::Hold, ""));
        stage.in_turn("neighbour", "hold");
        wait_for("the neighbour to be asked", || stage.agent.is_held().then_some(()));
        stage.neighbour = stage.world.traces_of("neighbour");
        // The chain stays; the CLIs below it come and go as the adapter pleases (seen: one replaced by another in mid-turn).
        stage
            .neighbour
            .processes
            .retain(|process| !process.command.contains("claude-agent-sdk") && !process.command.starts_with("rg "));
        stage
    }

    /// A step with the agent, in YAML, indented for `steps:`.
    fn agent_step(&self, name: &str, turn: &Turn, more: &str) -> String {
        let prompt = self.agent.prompt(turn);
        format!(
            "  {name}:\n    executor: agent\n    agent: agent\n    prompt: \"{prompt}\"\n    output_mode: stream_result\n    outputs: [result]\n{more}"
        )
    }

    /// Drops a job with these steps.
    fn run_flow(&self, name: &str, steps: &str) {
        self.run_job(name, steps, "");
    }

    /// The same, with more lines of the job's spec.
    fn run_job(&self, name: &str, steps: &str, spec: &str) {
        let steps: String = steps.lines().map(|line| format!("    {line}\n")).collect();
        self.world.drop_file(
            &format!("{name}.yaml"),
            &format!(
                "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n{spec}  flow:\n    steps:\n{steps}"
            ),
        );
    }

    /// Waits until a step of a job is in its turn: its adapter lives, and a session is open. Gives all that lives for the
    /// job.
    #[track_caller]
    fn in_turn(&self, job: &str, step: &str) -> Traces {
        wait_for(&format!("{job}/{step} to be in its turn\n{}", self.world.log()), || {
            let runs = self.world.runs(job);
            let run = runs.get(step)?;
            let phase = run["status"]["phase"].as_str()?;
            assert!(phase == "Running" || phase == "Pending", "{job}/{step} is {phase}: {run:#}");
            run["status"]["session"].as_str()?;
            let traces = self.world.traces_of(job);
            (traces.processes.len() > 1).then_some(traces)
        })
    }

    /// Afterwards: nothing is left of these, no run of the job is in motion, and the neighbour is as it was.
    #[track_caller]
    fn afterwards(&self, job: &str, traces: &Traces) {
        assert!(!traces.uids.is_empty(), "a case without a workload proves nothing");
        self.world.wait_gone(traces);
        for (step, run) in self.world.runs(job) {
            let phase = run["status"]["phase"].as_str().unwrap().to_owned();
            assert!(["Completed", "Failed", "Skipped", "Cancelled"].contains(&phase.as_str()), "{step} is {phase}");
        }
        self.neighbour_is_untouched();
    }

    #[track_caller]
    fn neighbour_is_untouched(&self) {
        for process in &self.neighbour.processes {
            assert!(process.is_alive(), "the neighbour lost {process:?}\n{}", self.world.log());
        }
        let neighbour = self.world.job("neighbour").unwrap();
        assert_eq!(neighbour["status"]["phase"], "Running", "{neighbour:#}");
        let events = self.world.ok(&["events"]);
        let touched =
            |line: &&str| self.neighbour.uids.iter().any(|uid| line.contains(uid.as_str())) && line.contains("Stop");
        assert_eq!(events.lines().find(touched), None);
    }

    /// Runs a flow to this phase and reason; nothing of it is left.
    #[track_caller]
    fn ends(&self, job: &str, steps: &str, phase: &str, reason: Option<&str>) {
        self.run_flow(job, steps);
        let traces = self.watch_until(job, phase);
        let status = self.world.job(job).unwrap()["status"].clone();
        assert_eq!(status["reason"].as_str(), reason, "{status:#}");
        self.afterwards(job, &traces);
    }

    /// Everything that was ever seen of a job until it reached this phase.
    #[track_caller]
    fn watch_until(&self, job: &str, phase: &str) -> Traces {
        let mut seen = Traces::default();
        wait_for(&format!("{job} to be {phase}\n{}", self.world.log()), || {
            if self.world.job(job).is_some() {
                seen = std::mem::take(&mut seen).and(self.world.traces_of(job));
            }
            let job = self.world.job(job)?;
            (job["status"]["phase"] == phase).then_some(())
        });
        seen.and(self.world.traces_of(job))
    }
}

/// Each case twice: with the fake agent and with the real adapter.
macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident => $body:expr;)+) => {
        mod fake {
            use super::*;
            $($(#[$doc])* #[test] fn $name() { let body: fn(Agent) = $body; body(Agent::fake()); })+
        }
        mod real {
            use super::*;
            $($(#[$doc])* #[test] fn $name() { let body: fn(Agent) = $body; body(Agent::real()); })+
        }
    };
}

cases! {
    completing => |agent| {
        let stage = Stage::new(agent);
        stage.ends("job", &stage.agent_step("work", &Turn::Done, ""), "Succeeded", None);
    };

    settling_without_a_terminal_step_reached => |agent| {
        let stage = Stage::new(agent);
        let steps = stage.agent_step("work", &Turn::Done, "")
            + "  broken:\n    run: exit 1\n    after: [work]\n    exits: [{when: \"'_error' in outputs\", action: advance}]\n"
            + "  last:\n    run: echo\n    after: [broken]\n";
        stage.ends("job", &steps, "Failed", Some("NoTerminalReached"));
    };

    a_step_failing => |agent| {
        let stage = Stage::new(agent);
        let steps = stage.agent_step("work", &Turn::Done, "") + "  broken:\n    run: exit 3\n    after: [work]\n";
        stage.ends("job", &steps, "Failed", Some("StepFailed"));
    };

    abandon_on_a_failed_step => |agent| {
        let stage = Stage::new(agent);
        let steps = stage.agent_step("work", &Turn::Done, "")
            + "  broken:\n    run: exit 3\n    after: [work]\n    exits: [{name: give_up, when: \"'_error' in outputs\", action: abandon}]\n";
        stage.ends("job", &steps, "Failed", Some("Abandoned"));
    };

    abandon_on_a_completed_step_ten_times_in_a_row => |agent| {
        let stage = Stage::new(agent);
        let steps = stage.agent_step("work", &Turn::Done, "    exits: [{name: enough, when: \"True\", action: abandon}]\n");
        let mut all = Traces::default();
        for number in 0..10 {
            let job = format!("job-{number}");
            stage.ends(&job, &steps, "Failed", Some("Abandoned"));
            all = all.and(stage.world.traces_of(&job));
        }
        assert_eq!(all.uids.len(), 10);
        assert_eq!(stage.world.left_of(&all), Vec::<String>::new());
    };

    abandon_while_another_agent_step_and_a_script_are_in_flight => |agent| {
        let stage = Stage::new(agent);
        let steps = stage.agent_step("other", &Turn::Hold, "")
            + "  script:\n    run: sleep 1000\n"
            + "  gate:\n    executor: external\n    outputs: [go]\n    exits: [{name: stop, when: \"True\", action: abandon}]\n";
        stage.run_flow("job", &steps);
        let traces = stage.in_turn("job", "other");
        wait_for("the script to run", || {
            (stage.world.runs("job").get("script")?["status"]["phase"] == "Running").then_some(())
        });
        wait_for("the script's process", || {
            stage.world.traces_of("job").processes.iter().any(|p| p.command == "sleep 1000").then_some(())
        });
        let traces = traces.and(stage.world.traces_of("job"));
        stage.world.ok(&["fulfill", "job/gate", "go=1"]);
        let job = stage.world.wait_job("job", "Failed");
        assert_eq!(job["status"]["reason"], "Abandoned");
        stage.afterwards("job", &traces);
        let runs = stage.world.runs("job");
        assert_eq!(runs["other"]["status"]["phase"], "Cancelled");
        assert_eq!(runs["script"]["status"]["phase"], "Cancelled");
    };

    cancel_by_command => |agent| {
        let stage = Stage::new(agent);
        stage.run_flow("job", &stage.agent_step("work", &Turn::Hold, ""));
        let traces = stage.in_turn("job", "work");
        stage.world.ok(&["cancel", "job"]);
        stage.world.wait_job("job", "Cancelled");
        stage.afterwards("job", &traces);
    };

    cancel_by_editing_the_manifest => |agent| {
        let stage = Stage::new(agent);
        let steps = stage.agent_step("work", &Turn::Hold, "");
        stage.run_flow("job", &steps);
        let traces = stage.in_turn("job", "work");
        stage.run_job("job", &steps, "  state: Cancelled\n");
        stage.world.wait_job("job", "Cancelled");
        stage.afterwards("job", &traces);
    };

    its_manifest_being_removed => |agent| {
        let stage = Stage::new(agent);
        stage.run_flow("job", &stage.agent_step("work", &Turn::Hold, ""));
        let traces = stage.in_turn("job", "work");
        stage.world.remove_file("job.yaml");
        wait_for("the job to go", || stage.world.get("job", "job").is_none().then_some(()));
        stage.afterwards("job", &traces);
    };

    its_row_being_deleted_behind_the_controllers_back => |agent| {
        let stage = Stage::new(agent);
        stage.run_flow("job", &stage.agent_step("work", &Turn::Hold, ""));
        let traces = stage.in_turn("job", "work");
        let store = rusqlite::Connection::open(stage.world.state().join("tenure.db")).unwrap();
        store.busy_timeout(crate::support::PATIENCE).unwrap();
        assert_eq!(store.execute("DELETE FROM objects WHERE kind = 'Job' AND name = 'job'", []).unwrap(), 1);
        stage.afterwards("job", &traces);
    };

    its_deadline_passing => |agent| {
        let stage = Stage::new(agent);
        stage.run_job("job", &stage.agent_step("work", &Turn::Hold, ""), "  deadline: 8s\n");
        let traces = stage.in_turn("job", "work");
        let job = stage.world.wait_job("job", "Failed");
        assert_eq!(job["status"]["reason"], "DeadlineExceeded");
        stage.afterwards("job", &traces);
    };

    sharing_an_adapter_with_a_job_that_goes_on => |agent| {
        let world = World::new();
        agent.install(&world, "  reuse: shared\n");
        let stage = Stage { world, agent, neighbour: Traces::default() };
        stage.run_flow("first", &stage.agent_step("work", &Turn::Hold, ""));
        let first = stage.in_turn("first", "work");
        stage.run_flow("second", &stage.agent_step("work", &Turn::Hold, ""));
        let second = stage.in_turn("second", "work");
        assert_eq!(first.uids, second.uids, "they share one adapter");
        stage.world.ok(&["cancel", "first", "--wait"]);
        let events = |reason: &str| stage.world.ok(&["events"]).contains(reason);
        assert!(!events("Stopping"), "the adapter stays for its second owner");
        assert!(second.processes.iter().any(|process| process.is_alive()));
        stage.world.ok(&["cancel", "second", "--wait"]);
        stage.world.wait_gone(&first.and(second));
    };

    the_controller_being_killed_in_mid_prompt_and_started_again => |agent| {
        let mut stage = Stage::new(agent);
        let ran = stage.world.path().join("ran");
        type Release = Box<dyn Fn(&Stage)>;
        let (steps, release): (String, Release) = match &stage.agent {
            Agent::Fake(_) => {
                let prompt = format!("@count {}\\n@wait-for {}\\n@say done", ran.display(), stage.world.path().join("go").display());
                let step = format!("  work:\n    executor: agent\n    agent: agent\n    prompt: \"{prompt}\"\n    output_mode: stream_result\n    outputs: [result]\n");
                (step, Box::new(|stage| std::fs::write(stage.world.path().join("go"), "").unwrap()))
            }
            Agent::Real(_) => (
                "  work:\n    executor: agent\n    agent: agent\n    prompt: \"Say GATE.\"\n    output_mode: stream_result\n    outputs: [result]\n".to_owned(),
                Box::new(|stage| if let Agent::Real(api) = &stage.agent { api.open_gate() }),
            ),
        };
        stage.run_flow("job", &steps);
        let traces = stage.in_turn("job", "work");
        wait_for("the prompt to have arrived", || match &stage.agent {
            Agent::Fake(_) => ran.exists().then_some(()),
            Agent::Real(api) => (api.asked("GATE") > 0).then_some(()),
        });
        stage.world.kill_controller();
        stage.world.start();
        release(&stage);
        let job = stage.world.wait_job("job", "Succeeded");
        assert_eq!(job["status"]["outputs"]["result"].as_str().map(str::trim), Some("done"), "{job:#}");
        match &stage.agent {
            Agent::Fake(_) => assert_eq!(std::fs::read_to_string(ran).unwrap().lines().count(), 1, "the turn ran once"),
            Agent::Real(api) => assert_eq!(api.asked("GATE"), 1, "the turn was asked once"),
        }
        stage.afterwards("job", &traces);
    };

    the_controller_being_killed_and_never_started_again => |agent| {
        let world = World::idle();
        world.drop_file(
            "policy.yaml",
            "apiVersion: tenure.dev/v1alpha1\nkind: Policy\nmetadata: {name: default}\nspec: {lease: 2s}\n",
        );
        let mut world = world;
        world.start();
        let mut stage = Stage::with(agent, world);
        stage.run_flow("job", &(stage.agent_step("work", &Turn::Hold, "") + "  script:\n    run: sleep 1000\n"));
        let traces = stage.in_turn("job", "work");
        wait_for("the script's process", || {
            stage.world.traces_of("job").processes.iter().any(|p| p.command == "sleep 1000").then_some(())
        });
        let traces = traces.and(stage.world.traces_of("job")).and(stage.neighbour.clone());
        stage.world.kill_controller();
        stage.world.wait_gone(&traces);
    };

    the_shim_being_killed => |agent| {
        let stage = Stage::new(agent);
        stage.run_flow("job", &stage.agent_step("work", &Turn::Hold, ""));
        let traces = stage.in_turn("job", "work");
        let shim = traces.processes.iter().find(|process| process.command.contains(" shim ")).unwrap();
        crate::support::procs::signal(shim.pid, "KILL");
        let job = stage.world.wait_job("job", "Failed");
        assert_eq!(job["status"]["reason"], "StepFailed");
        let why = job["status"]["message"].as_str().unwrap().to_owned();
        assert!(why.contains("shim"), "the job says why: {why}");
        stage.afterwards("job", &traces);
    };
}
