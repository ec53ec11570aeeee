//! The way out of objects and events: what a job has that is sensitive is masked in them. The store keeps it.

use super::flows;
use crate::flow::{Secrets, Sensitive};
use crate::model::{AnyObject, Event, Job, JobUid, Kind, StepRun, Uid, WorkloadUid};
use crate::store::{Store, StoreError};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A job has no more jobs above it.
const DEEPEST: usize = 32;

/// What must not be shown of one object: each job that it is about has its part.
type Together = Rc<Vec<Rc<Secrets>>>;

/// The way out, for one answer. What it learns of a job it remembers.
pub struct Veil<'s> {
    store: &'s Store,
    by_job: RefCell<HashMap<JobUid, Rc<Secrets>>>,
    by_subject: RefCell<HashMap<(Kind, String), Together>>,
}

impl<'s> Veil<'s> {
    /// For what is in this store.
    pub fn new(store: &'s Store) -> Veil<'s> {
        Veil { store, by_job: RefCell::default(), by_subject: RefCell::default() }
    }

    /// An object as it may be shown.
    ///
    /// # Errors
    /// The store's: then nothing is shown.
    pub fn object(&self, object: &AnyObject) -> Result<Value, StoreError> {
        let mut shown = object.to_json();
        for secrets in self.secrets_of(object)? {
            secrets.mask(&mut shown);
        }
        Ok(shown)
    }

    /// An event as it may be shown.
    ///
    /// # Errors
    /// As for an object.
    pub fn event(&self, mut event: Event) -> Result<Event, StoreError> {
        for secrets in self.of_subject(event.kind, &event.name)?.iter() {
            event.message = secrets.mask_text(&event.message).into_owned();
            secrets.mask(&mut event.details);
        }
        Ok(event)
    }

    /// What must not be shown of what is said of an object: read once, for many events are of the same.
    fn of_subject(&self, kind: Kind, name: &str) -> Result<Together, StoreError> {
        let subject = (kind, name.to_owned());
        if let Some(known) = self.by_subject.borrow().get(&subject) {
            return Ok(known.clone());
        }
        let secrets = match self.store.get(kind, name)? {
            Some(object) => self.secrets_of(&object)?,
            None => Vec::new(),
        };
        let secrets = Rc::new(secrets);
        self.by_subject.borrow_mut().insert(subject, secrets.clone());
        Ok(secrets)
    }

    /// What must not be shown of what a workload wrote.
    ///
    /// # Errors
    /// As for an object.
    pub fn of_workload(&self, uid: &WorkloadUid) -> Result<Secrets, StoreError> {
        let mut all = Secrets::default();
        if let Some(object) = self.store.get(Kind::Workload, uid.as_str())? {
            self.secrets_of(&object)?.iter().for_each(|secrets| all.extend(secrets));
        }
        Ok(all)
    }

    fn secrets_of(&self, object: &AnyObject) -> Result<Vec<Rc<Secrets>>, StoreError> {
        match object {
            AnyObject::Job(job) => Ok(vec![self.of_job(job)?]),
            AnyObject::StepRun(run) => Ok(self.of_named(&run.spec.job, &run.spec.job_uid)?.into_iter().collect()),
            AnyObject::Workload(workload) => {
                let owners = workload.spec.owners.iter();
                owners.filter_map(|owner| self.of_named(&owner.name, &owner.uid).transpose()).collect()
            }
            AnyObject::Flow(flow) => {
                let mut secrets = Secrets::default();
                defaults(&mut secrets, &flow.spec, &Sensitive::of(&flow.spec));
                Ok(vec![Rc::new(secrets)])
            }
            AnyObject::AgentClass(_) | AnyObject::MachineClass(_) | AnyObject::Ledger(_) | AnyObject::Policy(_) => {
                Ok(Vec::new())
            }
        }
    }

    fn of_named(&self, name: &str, uid: &JobUid) -> Result<Option<Rc<Secrets>>, StoreError> {
        if let Some(known) = self.by_job.borrow().get(uid) {
            return Ok(Some(known.clone()));
        }
        if self.has_no_secrets(uid)? {
            let none = Rc::new(Secrets::default());
            self.by_job.borrow_mut().insert(uid.clone(), none.clone());
            return Ok(Some(none));
        }
        match self.store.get(Kind::Job, name)? {
            Some(AnyObject::Job(job)) if job.uid() == *uid => self.of_job(&job).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// Whether it is plain that a job has none: it has its flow with it, there is nothing above it, and nothing in it is called
    /// sensitive. A job may hold megabytes of outputs, and most have no secrets.
    fn has_no_secrets(&self, uid: &JobUid) -> Result<bool, StoreError> {
        let keys = ["\"flow\":", "\"parent\":", "\"sensitive\":"];
        Ok(self.store.mentions(&Uid(uid.0.clone()), keys)? == Some([true, false, false]))
    }

    fn of_job(&self, job: &Job) -> Result<Rc<Secrets>, StoreError> {
        if let Some(known) = self.by_job.borrow().get(&job.uid()) {
            return Ok(known.clone());
        }
        let mut secrets = Secrets::default();
        // What a job was given by the one above it is as sensitive as it was there.
        self.add_of(&mut secrets, job)?;
        let mut below = job.spec.parent.clone();
        for _ in 0..DEEPEST {
            let Some(parent) = below.take() else { break };
            if let Some(AnyObject::Job(above)) = self.store.get(Kind::Job, &parent.job)?
                && above.uid() == parent.job_uid
            {
                self.add_of(&mut secrets, &above)?;
                below = above.spec.parent;
            }
        }
        let secrets = Rc::new(secrets);
        self.by_job.borrow_mut().insert(job.uid(), secrets.clone());
        Ok(secrets)
    }

    /// What is sensitive in one job by what its own flow says.
    fn add_of(&self, secrets: &mut Secrets, job: &Job) -> Result<(), StoreError> {
        let flow = match (&job.status.flow, &job.spec.flow, &job.spec.flow_ref) {
            (Some(flow), _, _) | (None, Some(flow), _) => Cow::Borrowed(flow),
            (None, None, Some(name)) => match self.store.get(Kind::Flow, name)? {
                Some(AnyObject::Flow(flow)) => Cow::Owned(Arc::new(flow.spec)),
                Some(_) | None => return Ok(()),
            },
            (None, None, None) => return Ok(()),
        };
        let sensitive = Sensitive::of(&flow);
        if !sensitive.is_empty() {
            let runs = if sensitive.outputs.is_empty() { Vec::new() } else { self.runs_of(job)? };
            flows::hide(secrets, &sensitive, job, runs.iter());
            defaults(secrets, &flow, &sensitive);
        }
        Ok(())
    }

    fn runs_of(&self, job: &Job) -> Result<Vec<StepRun>, StoreError> {
        let owned = self.store.list_owned(&job.uid())?;
        let runs = owned.into_iter().filter_map(|object| match object {
            AnyObject::StepRun(run) => Some(run),
            _ => None,
        });
        Ok(runs.collect())
    }
}

/// The values that the flow itself has for them.
fn defaults(secrets: &mut Secrets, flow: &Value, sensitive: &Sensitive) {
    for name in &sensitive.inputs {
        secrets.add(&flow["inputs"][name]["default"]);
        secrets.add(&flow["config"][name]["default"]);
    }
}
