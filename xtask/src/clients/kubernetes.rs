//! Kubernetes' API server and controllers, as Debian has them, on three members of ours with client
//! certificates: what they store, watch, page through, compact and lease, and what of it outlives a
//! leader that is killed. Two API servers, since one answers lists and watches from its memory.

mod objects;
mod servers;

use super::cluster::{Cluster, Tls};
use super::programs::{Running, Steps, answer, start_three, wait_for, wait_until};
use super::tools::Tools;
use super::{Tally, installed};
use crate::ci::succeed;
use anyhow::{Context, ensure};
use objects::{Watch, names, objects_of, page};
use servers::{Api, Place};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "kubernetes";
/// How many objects there are before anything is killed, and how many come meanwhile.
const FIRST_COUNT: usize = 2_000;
const LATER_COUNT: usize = 1_000;
const MAPS: &str = "/api/v1/namespaces/load/configmaps";

/// All of it.
pub(super) fn run(tools: &Tools) -> anyhow::Result<Tally> {
    let programs = build(tools)?;
    println!("the logs are in {}", tools.folder.join("data").display());
    let mut steps = Steps::new();
    over_plain_http(tools, &programs, &mut steps)?;
    let data = with_certificates(tools, NAME)?;
    let (mut cluster, mut ports) = start_three(tools, &data, Tls::Mutual(data.clone()))?;
    let place = Place { programs, folder: data, urls: cluster.urls() };
    let mut stage = Stage {
        // One that answers from its memory and one that does not.
        cached: Api::start(&place, "cached", &mut ports, &["--watch-cache=true"])?,
        plain: Api::start(&place, "plain", &mut ports, &["--watch-cache=false"])?,
        place: &place,
        steps,
    };
    stage.play(&mut cluster)?;
    Ok(stage.steps.tally())
}

/// Without certificates, where its client asks members for their sizes in another way.
fn over_plain_http(tools: &Tools, programs: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    let folder = with_certificates(tools, "kubernetes-http")?;
    let (cluster, mut ports) = start_three(tools, &folder, Tls::No)?;
    let place = Place { programs: programs.to_owned(), folder, urls: cluster.urls() };
    let api = Api::start(&place, "api", &mut ports, &[])?;
    api.wait_until_ready()?;
    has_sizes(&api)?;
    steps.seen("over plain HTTP an API server is ready, and knows the size of each member");
    Ok(())
}

/// Waits until its metrics have the size of each member's database; it is -1 where it could not ask.
fn has_sizes(api: &Api) -> anyhow::Result<()> {
    wait_until("a size of each member's database", || {
        let page = api.ctl(&["get", "--raw", "/metrics"])?;
        let sizes = page.lines().filter_map(|line| {
            let rest = line.strip_prefix("etcd_db_total_size_in_bytes{")?;
            rest.split_whitespace().last()?.parse::<f64>().ok()
        });
        Ok(sizes.filter(|size| *size > 0.0).count() == 3)
    })
}

/// An empty folder but for what servers show, and sign with.
fn with_certificates(tools: &Tools, name: &str) -> anyhow::Result<PathBuf> {
    let folder = tools.data_folder(name)?;
    let script = tools.pins.join(NAME).join("certificates.sh");
    answer(Command::new("sh").arg(script).arg(&folder))?;
    Ok(folder)
}

fn build(tools: &Tools) -> anyhow::Result<PathBuf> {
    let folder = tools.folder.join(NAME);
    let script = tools.pins.join(NAME).join("build.sh");
    installed(&folder, &[&script], || {
        println!("building Kubernetes, which takes minutes");
        succeed(Command::new("sh").arg(&script).arg(&folder))
    })?;
    Ok(folder)
}

struct Stage<'a> {
    cached: Api,
    plain: Api,
    place: &'a Place,
    steps: Steps,
}

impl Stage<'_> {
    fn play(&mut self, cluster: &mut Cluster) -> anyhow::Result<()> {
        self.is_ready()?;
        self.plain.ctl(&["create", "namespace", "load"])?;
        let mut watches =
            [Watch::start(&self.cached, MAPS, "watch")?, Watch::start(&self.plain, MAPS, "watch")?];
        self.creates()?;
        let old_page = self.pages()?;
        self.refuses_what_is_stale()?;
        self.outlives_the_leader(cluster, &mut watches)?;
        self.forgets_events()?;
        self.has_compacted(&old_page)?;
        self.counts()?;
        self.is_the_same_after_a_restart()?;
        self.needs_a_majority(cluster)?;
        self.runs_controllers()?;
        self.deletes_all()?;
        self.forgets_a_dead_server()
    }

    fn is_ready(&mut self) -> anyhow::Result<()> {
        for api in [&self.cached, &self.plain] {
            api.wait_until_ready()?;
            let verdict = api.ctl(&["get", "--raw", "/livez?verbose"])?;
            ensure!(verdict.contains("[+]etcd ok"), "expected etcd to be ok: {verdict}");
        }
        wait_until("both API servers in the service", || Ok(self.service()?.len() == 2))?;
        self.steps.seen("two API servers are ready, and have found each other by their leases");
        Ok(())
    }

    /// The addresses of the API servers, each of which is a key with a lease.
    fn service(&self) -> anyhow::Result<Vec<String>> {
        let place = "jsonpath={.subsets[0].addresses[*].ip}";
        let found = self.plain.ctl(&["get", "endpoints", "kubernetes", "-o", place])?;
        Ok(found.split_whitespace().map(str::to_owned).collect())
    }

    fn creates(&mut self) -> anyhow::Result<()> {
        let file = self.place.folder.join("first.json");
        objects::write_maps(&file, 0, FIRST_COUNT)?;
        self.plain.ctl(&["create", "-f", &file.display().to_string()])?;
        self.steps.seen(&format!("{FIRST_COUNT} objects were created"));
        Ok(())
    }

    /// Reads in pages while others write. Returns where the second page begins.
    fn pages(&mut self) -> anyhow::Result<String> {
        let before = names(&objects_of(&self.plain, MAPS)?)?;
        let first = page(&self.plain, MAPS, None)?;
        self.plain.ctl(&["-n", "load", "delete", "configmap", "m00000", "m01999"])?;
        self.plain.ctl(&["-n", "load", "create", "configmap", "m01500-and-a-half"])?;
        let (mut found, mut next) = (first.names, first.next.clone());
        let mut count = 1;
        while let Some(begin) = next {
            let more = page(&self.plain, MAPS, Some(&begin))?;
            ensure!(more.revision == first.revision, "expected every page at one revision");
            found.extend(more.names);
            next = more.next;
            count += 1;
        }
        ensure!(found == before && count > 3, "expected what was there at the first page");
        self.steps.seen(&format!("a list in {count} pages is of one revision, while others write"));
        first.next.context("expected a second page")
    }

    fn refuses_what_is_stale(&mut self) -> anyhow::Result<()> {
        let file = self.place.folder.join("stale.json");
        let path = file.display().to_string();
        let map = self.plain.ctl(&["-n", "load", "get", "configmap", "m00001", "-o", "json"])?;
        fs::write(&file, map)?;
        self.plain.ctl(&["replace", "-f", &path])?;
        self.plain.ctl(&["-n", "load", "annotate", "configmap", "m00001", "seen=yes"])?;
        self.plain.is_refused(&["replace", "-f", &path], "the object has been modified")?;
        self.steps.seen("an object is replaced once, and not by whoever knows an older one");
        Ok(())
    }

    fn outlives_the_leader(
        &mut self,
        cluster: &mut Cluster,
        watches: &mut [Watch; 2],
    ) -> anyhow::Result<()> {
        let file = self.place.folder.join("later.json");
        objects::write_maps(&file, FIRST_COUNT, LATER_COUNT)?;
        let mut create = self.plain.command();
        create.args(["create", "-f"]).arg(&file);
        let log = self.place.folder.join("later.log");
        let mut creating = Running::start(&mut create, log)?;
        let so_many = FIRST_COUNT + LATER_COUNT / 10;
        wait_until("some of the objects", || Ok(watches[1].added()?.len() > so_many))?;
        let leader = wait_for("a leader of ours", || Ok(cluster.leader()))?;
        ensure!(creating.end()?.is_none(), "expected objects to be created still");
        cluster.kill(leader)?;
        let ended_well = wait_for("an end of the creating", || creating.end())?;
        // Those that were asked for in between may have failed: once more, until all are there.
        let all = FIRST_COUNT + LATER_COUNT - 1;
        let arguments = ["create", "-f", &file.display().to_string()];
        wait_until("all objects", || {
            let _each_exists = self.plain.ctl(&arguments);
            Ok(objects_of(&self.plain, MAPS)?.len() == all)
        })?;
        let failed = if ended_well { "none" } else { "some" };
        self.steps.seen(&format!(
            "our leader was killed while {LATER_COUNT} more were created; {failed} had to be again"
        ));
        for watch in &mut *watches {
            // Two were deleted, and are among those that were added.
            wait_until("a watch to tell of all", || Ok(watch.added()?.len() == all + 2))?;
            ensure!(watch.is_running()?, "expected the watch to go on");
            watch.is_in_order()?;
        }
        cluster.restart(leader)?;
        self.steps.seen("two watches that ran all the while told of each object once and in order");
        Ok(())
    }

    fn forgets_events(&mut self) -> anyhow::Result<()> {
        let file = self.place.folder.join("event.json");
        objects::write_event(&file)?;
        self.plain.ctl(&["create", "-f", &file.display().to_string()])?;
        let get = ["-n", "load", "get", "event", "short"];
        self.plain.ctl(&get)?;
        wait_until("the event to be gone", || {
            self.plain.is_refused(&get, "not found").map(|()| true)
        })?;
        self.steps.seen("an event is gone once its time is up");
        Ok(())
    }

    fn has_compacted(&mut self, old_page: &str) -> anyhow::Result<()> {
        let path = format!("{MAPS}?limit=500&continue={old_page}");
        let too_old = "The provided continue parameter is too old";
        for api in [&self.cached, &self.plain] {
            wait_until("an old page to be compacted", || {
                api.is_refused(&["get", "--raw", &path], too_old).map(|()| true)
            })?;
        }
        let path = format!("{MAPS}?watch=1&resourceVersion=1&timeoutSeconds=30");
        let told = self.plain.ctl(&["get", "--raw", &path])?;
        ensure!(told.contains("\"code\":410"), "expected 410 of a watch from 1 on, found {told}");
        self.steps
            .seen("what the API server has compacted is refused as expired, to lists and watches");
        Ok(())
    }

    fn counts(&mut self) -> anyhow::Result<()> {
        let count = objects_of(&self.plain, "/api/v1/configmaps")?.len();
        let counted = format!("etcd_object_counts{{resource=\"configmaps\"}} {count}");
        wait_until("the count of objects", || {
            let page = self.plain.ctl(&["get", "--raw", "/metrics"])?;
            Ok(page.lines().any(|line| line == counted))
        })?;
        has_sizes(&self.plain)?;
        self.steps.seen("its metrics have the number of objects, and the size of each member");
        Ok(())
    }

    fn is_the_same_after_a_restart(&mut self) -> anyhow::Result<()> {
        let before = objects_of(&self.plain, MAPS)?;
        self.cached.restart(self.place)?;
        self.cached.wait_until_ready()?;
        // As it has them in its memory.
        let path = format!("{MAPS}?resourceVersion=0");
        ensure!(objects_of(&self.cached, &path)? == before, "expected the same objects");
        self.steps.seen("an API server that was killed has all objects in its memory again");
        Ok(())
    }

    fn needs_a_majority(&mut self, cluster: &mut Cluster) -> anyhow::Result<()> {
        cluster.kill(0)?;
        cluster.kill(1)?;
        let ready = ["get", "--raw", "/readyz"];
        let arguments = ["-n", "load", "create", "configmap", "late", "--request-timeout=5s"];
        ensure!(self.plain.ctl(&arguments).is_err(), "expected no write without a majority");
        wait_until("the API server to be unready", || Ok(self.plain.ctl(&ready).is_err()))?;
        cluster.revive(0)?;
        cluster.restart(1)?;
        for api in [&self.cached, &self.plain] {
            api.wait_until_ready()?;
        }
        wait_until("a write", || Ok(self.plain.ctl(&["create", "namespace", "late"]).is_ok()))?;
        self.steps.seen("with two of ours killed it is unready; with them back it writes");
        Ok(())
    }

    fn runs_controllers(&mut self) -> anyhow::Result<()> {
        let _controllers = self.plain.start_controllers(self.place)?;
        let holder = "jsonpath={.spec.holderIdentity} {.spec.renewTime}";
        let lease = ["-n", "kube-system", "get", "lease", "kube-controller-manager", "-o", holder];
        let first = wait_for("a controller that leads", || self.plain.ctl(&lease).map(Some))?;
        wait_until("the lease to be renewed", || Ok(self.plain.ctl(&lease)? != first))?;
        let image = "--image=none";
        self.plain.ctl(&["create", "deployment", "three", image, "--replicas=3"])?;
        wait_until("three pods", || {
            let pods = self.plain.ctl(&["get", "pods", "-l", "app=three", "-o", "name"])?;
            Ok(pods.lines().count() == 3)
        })?;
        self.plain.ctl(&["delete", "namespace", "late", "--wait=true"])?;
        self.steps
            .seen("controllers elect a leader, make the pods of a deployment, empty a namespace");
        Ok(())
    }

    fn deletes_all(&mut self) -> anyhow::Result<()> {
        // The others ended with an API server that was killed, and without a majority.
        let watch = Watch::start(&self.plain, MAPS, "deletions")?;
        let count = objects_of(&self.plain, MAPS)?.len();
        // In one request, as the controllers do.
        self.plain.ctl(&["delete", "--raw", MAPS])?;
        wait_until("no objects", || Ok(objects_of(&self.plain, MAPS)?.is_empty()))?;
        wait_until("a watch to tell of all deletions", || Ok(watch.deleted()?.len() == count))?;
        watch.is_in_order()?;
        self.steps.seen(&format!(
            "{count} objects were deleted in one request, and a watch told of each"
        ));
        Ok(())
    }

    fn forgets_a_dead_server(&mut self) -> anyhow::Result<()> {
        self.cached.kill();
        wait_until("one API server in the service", || Ok(self.service()?.len() == 1))?;
        self.steps.seen("an API server that was killed is gone from the service with its lease");
        Ok(())
    }
}
