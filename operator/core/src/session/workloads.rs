//! How much of each workload does a session capture? Without that, a workload of which one pod in two was captured
//! seems to do twenty-five times as much as one of which one pod in fifty was.

use std::collections::BTreeMap;

use fleetprof_crds::session_status::{TargetStatus, WorkloadStatus};

/// The workloads of the targets. Targets whose pod was gone before it was picked belong to none.
#[must_use]
pub fn of(targets: &[TargetStatus]) -> Vec<WorkloadStatus> {
    let mut all: BTreeMap<&str, WorkloadStatus> = BTreeMap::new();
    for target in targets.iter().filter(|target| !target.workload.is_empty()) {
        let row = all.entry(&target.workload).or_default();
        row.targets = row.targets.saturating_add(1);
        if !target.profiles.is_empty() {
            row.captured = row.captured.saturating_add(1);
            row.pod_seconds = row.pod_seconds.saturating_add(seconds(target));
        }
        row.samples = row.samples.saturating_add(target.samples);
        // Of a status that was begun by a version without the number, at least the targets are known.
        row.pods = row.pods.max(target.workload_pods.unwrap_or(0)).max(row.targets);
    }
    all.into_iter().map(|(workload, row)| WorkloadStatus { workload: workload.to_owned(), ..row }).collect()
}

/// For how long a target was captured.
fn seconds(target: &TargetStatus) -> i64 {
    let span = target.start_time.as_ref().zip(target.end_time.as_ref());
    span.map_or(0, |(start, end)| end.0.duration_since(start.0).as_secs().max(0))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn each_workload_has_a_row_with_its_pods_and_those_with_data() {
        let target = |workload: &str, workload_pods, samples| {
            let profiles = (samples > 0)
                .then(|| serde_json::json!({"type": "cpu", "uri": "k", "bytes": 1, "samples": samples}));
            let profiles = profiles.into_iter().map(|p| serde_json::from_value(p).unwrap()).collect();
            let time = |second| Some(Time(Timestamp::from_second(second).unwrap()));
            TargetStatus {
                workload: workload.into(),
                workload_pods,
                samples,
                profiles,
                start_time: time(100),
                end_time: time(130),
                ..TargetStatus::default()
            }
        };
        let targets = [
            target("Deployment/web", Some(50), 7),
            target("Deployment/api", Some(2), 40),
            target("Deployment/web", Some(50), 0),
            target("Deployment/old", None, 1),
            target("Deployment/old", None, 1),
            target("", None, 0),
        ];
        let row = |workload: &str, pods, targets, captured, samples| WorkloadStatus {
            workload: workload.into(),
            pods,
            targets,
            captured,
            pod_seconds: 30 * i64::from(captured),
            samples,
        };
        let wanted = [
            row("Deployment/api", 2, 1, 1, 40),
            row("Deployment/old", 2, 2, 2, 2),
            row("Deployment/web", 50, 2, 1, 7),
        ];
        assert_eq!(of(&targets), wanted);
    }
}
