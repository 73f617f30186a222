// What the tests of every service share: clients that are closed at the end, prefixes that are nobody
// else's, and a proxy whose connections can be cut. Knows where the servers are (the environment says),
// nothing of what is tested.
'use strict';

const { once } = require('node:events');
const net = require('node:net');
const { Etcd3 } = require('etcd3');

function required(name) {
  const value = process.env[name];
  if (!value) {
    throw new Error(`expected ${name} in the environment: run this by \`cargo xtask clients\``);
  }
  return value;
}

/** `host:port` of a single server. */
const single = required('QUORATE_SINGLE');
/** The same of one whose tokens end soon after their last use. */
const brief = required('QUORATE_BRIEF');
/** `host:port` of each of three servers that form a cluster. */
const cluster = required('QUORATE_CLUSTER').split(',');

/** A client that is closed when the test ends. */
function clientOf(t, options = {}) {
  const client = new Etcd3({ hosts: single, ...options });
  t.after(() => client.close());
  return client;
}

let count = 0;

/** A client, and a namespace in which nothing is. */
function fresh(t, options = {}) {
  const client = clientOf(t, options);
  count += 1;
  const prefix = `${process.pid}-${count}/`;
  return { client, prefix, space: client.namespace(prefix) };
}

/** Asks again and again until there is an answer. */
async function eventually(question) {
  for (;;) {
    const answer = await question();
    if (answer) {
      return answer;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Everything of a stream until it ends. */
async function collect(stream) {
  const all = [];
  stream.on('data', (part) => all.push(part));
  await new Promise((resolve, reject) => {
    stream.on('end', resolve);
    stream.on('error', reject);
  });
  return all;
}

/** Passes bytes on to a server, until it is cut. */
class Proxy {
  constructor(target) {
    this.target = target;
    this.sockets = new Set();
    this.server = net.createServer((near) => this.join(near));
  }

  static async to(t, target) {
    const proxy = new Proxy(target);
    await proxy.listen(0);
    t.after(() => proxy.cut());
    return proxy;
  }

  async listen(port) {
    this.server.listen(port, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = this.server.address().port;
    this.address = `127.0.0.1:${this.port}`;
  }

  join(near) {
    const [host, port] = this.target.split(':');
    const far = net.connect(Number(port), host);
    for (const [one, other] of [[near, far], [far, near]]) {
      this.sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }

  /** Ends every connection, and takes no new one. */
  async cut() {
    const closed = this.server.listening && once(this.server, 'close');
    this.server.close();
    this.sockets.forEach((socket) => socket.destroy());
    await closed;
  }

  /** Takes connections again. */
  async mend() {
    await this.listen(this.port);
  }
}

module.exports = { single, brief, cluster, clientOf, fresh, eventually, collect, Proxy };
