//! Machines of a test's own, each a network namespace with one cable to a switch, and what can go
//! wrong with a network: cables are pulled, and what one machine sends to another gets lost. Knows
//! the kernel's tools (`unshare`, `nsenter`, `ip`), and no server.
//!
//! Nothing has a name outside of the test: a namespace lives in a process that ends with the test,
//! however that ends, and everything in it goes with it. The thread that makes a network moves to its
//! switch, and so do the threads and processes that it starts from then on; other tests are not
//! disturbed, whatever they do at the same time.
//!
//! A one-way cut is a wrong entry in the table of neighbours: what a machine sends goes to an address
//! on the wire that nobody has. Neither side is told, as with a real network.

use crate::harness::Machine;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

/// Leaves these tests out.
const LEAVE_OUT: &str = "QUORATE_NO_NETWORKS";
/// The hardware address of no machine.
const NOBODY: &str = "02:00:00:00:ff:ff";

/// The machines and the switch between them.
pub(crate) struct Network {
    switch: Space,
    spaces: Vec<Space>,
}

fn address(machine: usize) -> String {
    format!("10.77.0.{}", machine + 1)
}

fn hardware_address(machine: usize) -> String {
    format!("02:00:00:00:00:{:02x}", machine + 1)
}

impl Network {
    /// So many machines, each of which reaches each other one, and us. `None` if the environment
    /// says that there shall be no such tests.
    ///
    /// # Panics
    ///
    /// If a network cannot be made here. The message says what to do.
    pub(crate) fn of(machine_count: usize) -> Option<Self> {
        if std::env::var_os(LEAVE_OUT).is_some() {
            eprintln!("LEFT OUT: this test makes a network, and {LEAVE_OUT} is set");
            return None;
        }
        let network = Self::try_of(machine_count);
        Some(network.unwrap_or_else(|error| {
            panic!(
                "this test makes network namespaces, for which one has to be root and needs \
                 `unshare` and `nsenter` (util-linux) and `ip` (iproute2): {error}. Run it as root, \
                 or leave such tests out by setting {LEAVE_OUT}=1"
            )
        }))
    }

    fn try_of(machine_count: usize) -> Result<Self, String> {
        let switch = Space::new()?;
        let spaces: Vec<Space> =
            (0..machine_count).map(|_| Space::new()).collect::<Result<_, _>>()?;
        let mut plan = "link set lo up\n\
                        link add name switch0 type bridge\n\
                        addr add 10.77.0.254/24 dev switch0\n\
                        link set switch0 up\n"
            .to_owned();
        for (machine, space) in spaces.iter().enumerate() {
            let (hardware, pid) = (hardware_address(machine), space.holder.id());
            let cable = cable(machine);
            let _infallible = write!(
                plan,
                "link add name {cable} type veth peer name eth0 address {hardware} netns {pid}\n\
                 link set {cable} master switch0 up\n"
            );
        }
        switch.ip(&plan)?;
        for (machine, space) in spaces.iter().enumerate() {
            let own = address(machine);
            space.ip(&format!("link set lo up\naddr add {own}/24 dev eth0\nlink set eth0 up\n"))?;
        }
        let network = Self { switch, spaces };
        network.connect_all()?;
        network.switch.enter()?;
        Ok(network)
    }

    /// The machines, to start servers on.
    pub(crate) fn machines(&self) -> Vec<Machine> {
        let machine = |(machine, space): (usize, &Space)| Machine {
            host: address(machine),
            enter: vec!["nsenter".to_owned(), format!("--net={}", space.path()), "--".to_owned()],
        };
        self.spaces.iter().enumerate().map(machine).collect()
    }

    /// Loses, from now on, whatever one machine sends to the other.
    pub(crate) fn cut_one_way(&self, from: usize, to: usize) {
        self.spaces[from].ip(&neighbour(to, NOBODY)).expect("a cut can be made");
    }

    /// Loses whatever these machines and the others send to each other. Clients reach all of them.
    pub(crate) fn cut_off(&self, these: &[usize]) {
        for machine in 0..self.spaces.len() {
            for other in 0..self.spaces.len() {
                if these.contains(&machine) != these.contains(&other) {
                    self.cut_one_way(machine, other);
                }
            }
        }
    }

    /// Undoes all cuts.
    pub(crate) fn heal(&self) {
        self.connect_all().expect("a cut can be undone");
    }

    /// Pulls a machine's only cable: neither members nor clients reach it.
    pub(crate) fn unplug(&self, machine: usize) {
        let order = format!("link set {} down\n", cable(machine));
        self.switch.ip(&order).expect("a cable can be pulled");
    }

    /// Puts it in again.
    pub(crate) fn plug(&self, machine: usize) {
        let order = format!("link set {} up\n", cable(machine));
        self.switch.ip(&order).expect("a cable can be put in");
    }

    fn connect_all(&self) -> Result<(), String> {
        for (machine, space) in self.spaces.iter().enumerate() {
            let others = (0..self.spaces.len()).filter(|other| *other != machine);
            let orders: String =
                others.map(|other| neighbour(other, &hardware_address(other))).collect();
            space.ip(&orders)?;
        }
        Ok(())
    }
}

fn cable(machine: usize) -> String {
    format!("cable{}", machine + 1)
}

fn neighbour(machine: usize, hardware_address: &str) -> String {
    let address = address(machine);
    format!("neigh replace {address} lladdr {hardware_address} dev eth0 nud permanent\n")
}

/// A namespace, and the process that keeps it: one that waits for the end of its input, which we
/// hold, so that it ends with us.
struct Space {
    holder: Child,
}

impl Space {
    fn new() -> Result<Self, String> {
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("`unshare --net` cannot be run: {error}"))?;
        let mut word = [0; 6];
        let has_begun = holder.stdout.as_mut().is_some_and(|out| out.read_exact(&mut word).is_ok());
        let space = Self { holder };
        if has_begun { Ok(space) } else { Err(space.complaint()) }
    }

    fn complaint(mut self) -> String {
        let mut said = String::new();
        if let Some(mut complaints) = self.holder.stderr.take() {
            let _what_there_is = complaints.read_to_string(&mut said);
        }
        format!("`unshare --net` ended: {}", said.trim())
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Moves the present thread there.
    fn enter(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("the namespace cannot be entered: {error}");
        let space = File::open(self.path()).map_err(failed)?;
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| failed(error.into()))
    }

    /// Carries out what would be arguments of `ip`, one command a line.
    fn ip(&self, orders: &str) -> Result<(), String> {
        let net = format!("--net={}", self.path());
        let mut ip = Command::new("nsenter")
            .args([&net, "--", "ip", "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("`nsenter` cannot be run: {error}"))?;
        // What it did not read it complains of.
        let _unread = ip.stdin.take().map(|mut input| input.write_all(orders.as_bytes()));
        let output = ip.wait_with_output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(());
        }
        Err(format!("`ip` ended with {}: {} of\n{orders}", output.status, said.trim()))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _status = self.holder.wait();
    }
}
