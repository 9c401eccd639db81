use std::{
    cmp::Reverse,
    collections::HashSet,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params_from_iter, types::Value};

use crate::{
    audit::{
        AuditError, Options, Store, files, rows,
        rows::{CATEGORY, COLUMNS, JOINS, RULE},
        schema,
    },
    model::{
        Action, DestinationId, Fingerprint, FlowId, FlowRecord, Outcome, RuleId, RunClosing, RunId,
        RunOpening, RunRecord,
    },
};

/// Which end of the log comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest flow first.
    #[default]
    NewestFirst,
    /// The oldest flow first.
    OldestFirst,
}

/// Which flows to read. Everything that is set must hold; the default is every flow, newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Flows of this run.
    pub run: Option<RunId>,
    /// Flows to this destination.
    pub destination: Option<DestinationId>,
    /// Flows in which this rule found something.
    pub rule: Option<RuleId>,
    /// Flows with a finding of this category, or of one beneath it (`pii` covers `pii.account`).
    pub category: Option<Box<str>>,
    /// Flows for which policy decided this.
    pub action: Option<Action>,
    /// Flows that ended like this.
    pub outcome: Option<Outcome>,
    /// Flows from this moment on, in milliseconds since 1970 (UTC).
    pub since_ms: Option<i64>,
    /// Flows before this moment, in milliseconds since 1970 (UTC).
    pub until_ms: Option<i64>,
    /// Flows of this session of the client.
    pub session: Option<Fingerprint>,
    /// Flows whose authority followed by its path holds this text, in any case of ASCII letters.
    pub text: Option<Box<str>>,
    /// At most so many flows.
    pub limit: Option<usize>,
    /// Which end of the log comes first.
    pub order: Order,
}

/// Reads a store, also while others write to it, and after one of them was killed.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the store in `folder` for reading.
    ///
    /// # Errors
    /// [`AuditError::NoStore`] if there is none; files that others could have touched; a newer schema.
    pub fn open(folder: &Path) -> Result<Self, AuditError> {
        let database: PathBuf = match folder.canonicalize() {
            Ok(folder) => folder.join(schema::DATABASE_FILE),
            Err(_) => return Err(AuditError::NoStore(folder.display().to_string())),
        };
        if files::identity(&database).is_none() {
            return Err(AuditError::NoStore(folder.display().to_string()));
        }
        if let Some(connection) = schema::open_for_reading(&database)? {
            return Ok(Self { connection });
        }
        // An older schema: opening for writing brings it up to date.
        Store::open(folder, Options::default())?;
        let connection = schema::open_for_reading(&database)?;
        connection
            .map(|connection| Self { connection })
            .ok_or_else(|| AuditError::NoStore(folder.display().to_string()))
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Every run, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn runs(&self) -> Result<Vec<RunRecord>, AuditError> {
        let mut statement = self.connection.prepare_cached(SELECT_RUNS)?;
        let mut rows = statement.query([])?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next()? {
            runs.push(read_run(row)?);
        }
        Ok(runs)
    }

    /// One run.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn run(&self, id: RunId) -> Result<Option<RunRecord>, AuditError> {
        let mut statement = self.connection.prepare_cached(SELECT_RUN)?;
        let mut rows = statement.query([id.get()])?;
        rows.next()?.map(read_run).transpose()
    }

    /// One flow, with its fields and its body.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn flow(&self, id: FlowId) -> Result<Option<FlowRecord>, AuditError> {
        let Some(mut record) = self.flow_by_key(id.to_key())? else { return Ok(None) };
        rows::read_payload(&self.connection, &mut record)?;
        Ok(Some(record))
    }

    /// The flows that pass `filter`, without their fields and bodies.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn flows(&self, filter: &Filter) -> Result<Vec<FlowRecord>, AuditError> {
        let mut flows = Vec::new();
        self.visit(filter, |record| {
            flows.push(record);
            ControlFlow::Continue(())
        })?;
        Ok(flows)
    }

    /// Shows `visit` each flow that passes `filter`, one by one, without its fields and body.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn visit(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(FlowRecord) -> ControlFlow<()>,
    ) -> Result<(), AuditError> {
        let Some(mut query) = self.plan(filter)? else { return Ok(()) };
        if let Some(sets) = query.term_sets.take() {
            if let Some(places) = query.places.take() {
                query.require_places(&places);
            }
            let limit = filter.limit.unwrap_or(usize::MAX);
            return self.visit_merged(&query.by_term_set(), &sets, limit, visit);
        }
        if let Some(places) = query.places.take_if(|places| places.len() <= MERGED) {
            if let Some(limit) = filter.limit
                && query.may_go_by_place()
            {
                return self.visit_merged(&query.by_place(), &places, limit, visit);
            }
            query.require_places(&places);
        }
        let sql = query.select(COLUMNS, JOINS, filter.limit);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&query.values))?;
        let places: Option<HashSet<i64>> = query.places.map(HashSet::from_iter);
        let mut left = filter.limit.unwrap_or(usize::MAX);
        while left > 0
            && let Some(row) = rows.next()?
        {
            if places
                .as_ref()
                .is_some_and(|places| row.get(PLACE_COLUMN).is_ok_and(|id| !places.contains(&id)))
            {
                continue;
            }
            left -= 1;
            if visit(rows::read_flow(row)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Takes the first of each place (or set of terms) and merges them: however old they are, each is found by the
    /// index. Of what is found it holds 16 bytes a flow.
    fn visit_merged(
        &self,
        query: &Query,
        ids: &[i64],
        limit: usize,
        mut visit: impl FnMut(FlowRecord) -> ControlFlow<()>,
    ) -> Result<(), AuditError> {
        let mut found: Vec<(i64, i64)> = Vec::new();
        let limit_each = (limit < usize::MAX).then_some(limit);
        let sql = query.select("flow.time_ms, flow.key", "", limit_each);
        let mut statement = self.connection.prepare_cached(&sql)?;
        for id in ids {
            let id: &dyn ToSql = id;
            let values = query.values.iter().map(|value| value as &dyn ToSql);
            let mut rows = statement.query(params_from_iter(values.chain([id])))?;
            while let Some(row) = rows.next()? {
                found.push((row.get(0)?, row.get(1)?));
            }
        }
        match query.order {
            Order::NewestFirst => found.sort_unstable_by_key(|place| Reverse(*place)),
            Order::OldestFirst => found.sort_unstable(),
        }
        for (_, key) in found.into_iter().take(limit) {
            if let Some(record) = self.flow_by_key(key)?
                && visit(record).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn flow_by_key(&self, key: i64) -> Result<Option<FlowRecord>, AuditError> {
        let sql = format!("SELECT {COLUMNS} FROM flow {JOINS} WHERE flow.key = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([key])?;
        rows.next()?.map(rows::read_flow).transpose()
    }

    /// Chooses the index to walk along. `None`: the filter names something that no flow has.
    fn plan(&self, filter: &Filter) -> Result<Option<Query>, AuditError> {
        let mut query = Query { order: filter.order, ..Query::default() };
        let (mut since_ms, until_ms) = (filter.since_ms, filter.until_ms);
        // The rarest first: the first to claim the walk gets it, the others are checked on the way.
        if let Some(session) = filter.session {
            query.walk("flow_session");
            query.require("flow.session = ?", session.to_string());
        }
        if let Some(text) = &filter.text {
            query.places = Some(self.places(text)?);
        }
        let names = [
            filter.rule.as_ref().map(|rule| (RULE, rule.as_str())),
            filter.category.as_deref().map(|category| (CATEGORY, category)),
        ];
        let mut terms = Vec::new();
        for (kind, name) in names.into_iter().flatten() {
            let Some(term) = self.term(kind, name)? else { return Ok(None) };
            terms.push(term);
        }
        if let [first, ..] = &*terms {
            let sets = self.term_sets(*first, *terms.last().unwrap_or(first))?;
            let has_few_places = query.places.as_ref().is_none_or(|places| places.len() <= MERGED);
            if query.index.is_none() && sets.len() <= MERGED && has_few_places {
                query.walk(TERMS_INDEX);
                query.term_sets = Some(sets);
            } else {
                terms.into_iter().for_each(|term| query.require(HAS_TERM, term));
            }
        }
        if let Some(action) = filter.action {
            if action != Action::Allow {
                query.walk("flow_action");
                query.conditions.push("flow.action <> 'allow'".to_owned());
            }
            query.require("flow.action = ?", action.as_str().to_owned());
        }
        if let Some(outcome) = filter.outcome {
            if outcome != Outcome::Forwarded {
                query.walk("flow_outcome");
                query.conditions.push("flow.outcome <> 'forwarded'".to_owned());
            }
            query.require("flow.outcome = ?", outcome.as_str().to_owned());
        }
        if let Some(destination) = &filter.destination {
            let Some(term) = self.term("destination", destination.as_str())? else { return Ok(None) };
            query.walk(DESTINATION_INDEX);
            query.require("flow.destination = ?", term);
        }
        if let Some(run) = filter.run {
            let first = FlowId::new(run, 0).to_key();
            query.require("flow.key >= ?", first);
            query.require("flow.key <= ?", first | i64::from(u32::MAX));
            if query.index.is_none() && since_ms.is_none() && until_ms.is_none() {
                query.index = Some(Walk::Keys);
            } else if let Some(run) = self.run(run)? {
                // Spares walking through what other runs left in the same index before this one began.
                since_ms = since_ms.max(Some(run.opening.time_ms.saturating_sub(CLOCK_STEP_MS)));
            }
        }
        if let Some(since_ms) = since_ms {
            query.require("flow.time_ms >= ?", since_ms);
        }
        if let Some(until_ms) = until_ms {
            query.require("flow.time_ms < ?", until_ms);
        }
        Ok(Some(query))
    }

    fn term(&self, kind: &str, name: &str) -> Result<Option<i64>, AuditError> {
        let mut statement = self.connection.prepare_cached(SELECT_TERM)?;
        Ok(statement.query_row([kind, name], |row| row.get(0)).optional()?)
    }

    /// The sets that hold both terms.
    fn term_sets(&self, one: i64, other: i64) -> Result<Vec<i64>, AuditError> {
        let mut statement = self.connection.prepare_cached(SELECT_TERM_SETS)?;
        let ids = statement.query_map([one, other], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    fn places(&self, text: &str) -> Result<Vec<i64>, AuditError> {
        let mut statement = self.connection.prepare_cached(SELECT_PLACES)?;
        let ids = statement.query_map([text], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }
}

/// Along what a query walks, in the order that was asked for.
#[derive(Clone, Debug)]
enum Walk {
    /// An index of `flow` that ends in `time_ms`.
    Index(&'static str),
    /// The numbers of one run.
    Keys,
}

#[derive(Clone, Debug, Default)]
struct Query {
    index: Option<Walk>,
    order: Order,
    conditions: Vec<String>,
    values: Vec<Value>,
    /// Where the text that was asked for occurs.
    places: Option<Vec<i64>>,
    /// The sets that hold what was asked for; each is walked by itself.
    term_sets: Option<Vec<i64>>,
}

impl Query {
    fn walk(&mut self, index: &'static str) {
        self.index.get_or_insert(Walk::Index(index));
    }

    fn require(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        self.conditions.push(condition.replace('?', &format!("?{}", self.values.len())));
    }

    /// Whether to ask each place by itself: not if the walk is along something rare already.
    fn may_go_by_place(&self) -> bool {
        self.index.as_ref().is_none_or(|walk| matches!(walk, Walk::Index(DESTINATION_INDEX)))
    }

    /// Has SQLite check the place, before it looks up anything else about a flow.
    fn require_places(&mut self, places: &[i64]) {
        let numbers: Vec<String> = places.iter().map(i64::to_string).collect();
        self.conditions.push(format!("flow.place IN ({})", numbers.join(", ")));
    }

    /// The same query for one place, whose number is the last value.
    fn by_place(&self) -> Self {
        self.by("flow.place", "flow_place")
    }

    /// The same query for one set of terms, whose number is the last value.
    fn by_term_set(&self) -> Self {
        self.by("flow.terms", TERMS_INDEX)
    }

    fn by(&self, column: &str, index: &'static str) -> Self {
        let mut query = self.clone();
        query.conditions.push(format!("{column} = ?{}", query.values.len() + 1));
        query.index = Some(Walk::Index(index));
        query
    }

    fn select(&self, columns: &str, joins: &str, limit: Option<usize>) -> String {
        let direction = match self.order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let (from, order) = match self.index.as_ref().unwrap_or(&Walk::Index("flow_time")) {
            Walk::Index(index) => (
                format!("flow INDEXED BY {index}"),
                format!("flow.time_ms {direction}, flow.key {direction}"),
            ),
            Walk::Keys => ("flow".to_owned(), format!("flow.key {direction}")),
        };
        let place = if joins.is_empty() { "" } else { ", flow.place" };
        let mut sql = format!("SELECT {columns}{place} FROM {from} {joins}");
        for (index, condition) in self.conditions.iter().enumerate() {
            sql.push_str(if index == 0 { " WHERE " } else { " AND " });
            sql.push_str(condition);
        }
        sql.push_str(&format!(" ORDER BY {order}"));
        if let Some(limit) = limit
            && (self.places.is_none() || joins.is_empty())
        {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        sql
    }
}

fn read_run(row: &Row<'_>) -> Result<RunRecord, AuditError> {
    let number: u32 = row.get(0)?;
    let ended_ms: Option<i64> = row.get(7)?;
    let exit_code = row.get(8)?;
    Ok(RunRecord {
        id: RunId::new(number).ok_or_else(|| AuditError::Damaged("a run has number 0".to_owned()))?,
        opening: RunOpening {
            time_ms: row.get(1)?,
            mode: row.get(2)?,
            program: row.get(3)?,
            version: row.get(4)?,
            policy_hash: row.get(5)?,
            rules_hash: row.get(6)?,
        },
        closing: ended_ms.map(|time_ms| RunClosing { time_ms, exit_code }),
    })
}

/// Where [`Query::select`] puts the place's number: after [`COLUMNS`].
const PLACE_COLUMN: usize = 18;

const SELECT_RUNS: &str = "SELECT id, time_ms, mode, program, version, policy_hash, rules_hash, ended_ms, \
    exit_code FROM run ORDER BY id";
const SELECT_RUN: &str = "SELECT id, time_ms, mode, program, version, policy_hash, rules_hash, ended_ms, \
    exit_code FROM run WHERE id = ?1";
const SELECT_TERM: &str = "SELECT id FROM term WHERE kind = ?1 AND name = ?2";
const SELECT_PLACES: &str = "SELECT id FROM place WHERE instr(lower(authority || path), lower(?1)) > 0";
const SELECT_TERM_SETS: &str = "SELECT one.term_set FROM term_set_member AS one CROSS JOIN term_set_member AS other \
    ON other.term_set = one.term_set WHERE one.term = ?1 AND other.term = ?2";
const HAS_TERM: &str = "EXISTS (SELECT 1 FROM term_set_member AS member WHERE member.term = ? \
    AND member.term_set = flow.terms)";

/// The index of what rules found.
const TERMS_INDEX: &str = "flow_terms";

/// The one index that a text is preferred to: a destination's flows may be millions.
const DESTINATION_INDEX: &str = "flow_destination";

/// Up to so many places (or sets of terms) each is asked for its newest flows; with more the text (or rule) is common,
/// and walking back in time finds it soon.
const MERGED: usize = 1000;

/// How far the clock may have been set back during a run for its flows to be found all the same.
const CLOCK_STEP_MS: i64 = 24 * 3600 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_scans_or_sorts_the_log() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path(), Options::default()).unwrap());
        let names =
            "INSERT INTO term (kind, name) VALUES ('rule', 'r'), ('category', 'c'), ('destination', 'd');
            INSERT INTO term_set (members) VALUES ('1 2');
            INSERT INTO term_set_member (term, term_set) VALUES (1, 1), (2, 1)";
        rusqlite::Connection::open(folder.path().join(schema::DATABASE_FILE))
            .unwrap()
            .execute_batch(names)
            .unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        let all = Filter { limit: Some(50), ..Filter::default() };
        let filters = [
            all.clone(),
            Filter { order: Order::OldestFirst, ..all.clone() },
            Filter { run: RunId::new(1), ..all.clone() },
            Filter { destination: Some(DestinationId::new("d")), ..all.clone() },
            Filter { rule: Some(RuleId::new("r")), ..all.clone() },
            Filter { category: Some("c".into()), since_ms: Some(1), ..all.clone() },
            Filter { rule: Some(RuleId::new("r")), category: Some("c".into()), ..all.clone() },
            Filter {
                rule: Some(RuleId::new("r")),
                session: "0123456789abcdef".to_owned().try_into().ok(),
                ..all.clone()
            },
            Filter { action: Some(Action::Redact), ..all.clone() },
            Filter { outcome: Some(Outcome::Refused), ..all.clone() },
            Filter { since_ms: Some(1), until_ms: Some(2), ..all.clone() },
            Filter { session: "0123456789abcdef".to_owned().try_into().ok(), ..all.clone() },
            Filter { destination: Some(DestinationId::new("d")), run: RunId::new(1), ..all },
        ];

        for filter in filters {
            let query = reader.plan(&filter).unwrap().unwrap();
            let by_place = query.may_go_by_place().then(|| query.by_place());
            let has_terms = filter.rule.is_some() || filter.category.is_some();
            assert_eq!(query.term_sets.is_some(), has_terms && filter.session.is_none(), "{filter:?}");
            let query = if query.term_sets.is_some() { query.by_term_set() } else { query };
            for query in by_place.into_iter().chain([query]) {
                let sql = format!("EXPLAIN QUERY PLAN {}", query.select(COLUMNS, JOINS, filter.limit));
                let mut statement = reader.connection.prepare(&sql).unwrap();
                let values = (0..statement.parameter_count()).map(|_| 1);
                let steps = statement.query_map(params_from_iter(values), |row| row.get(3)).unwrap();
                let steps: Vec<String> = steps.map(Result::unwrap).collect();

                let walks_index = steps[0].contains("INDEX flow_")
                    || steps[0].contains("PRIMARY KEY")
                    || steps[0].contains("rowid");
                assert!(walks_index, "{filter:?}: {steps:?}");
                assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{filter:?}: {steps:?}");
                assert!(!steps[1..].iter().any(|step| step.starts_with("SCAN")), "{filter:?}: {steps:?}");
            }
        }
    }
}
