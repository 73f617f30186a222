// A server that is reached over TLS: with its certificate trusted, and with it not.
'use strict';

const assert = require('node:assert/strict');
const { readFileSync } = require('node:fs');
const { once } = require('node:events');
const test = require('node:test');
const { GRPCUnavailableError } = require('etcd3');
const { clientOf } = require('./support');

const host = process.env.QUORATE_TLS;
const rootCertificate = readFileSync(process.env.QUORATE_TLS_CERTIFICATE);

test('keys, watches and leases work over TLS', async (t) => {
  const client = clientOf(t, { hosts: `https://${host}`, credentials: { rootCertificate } });
  const watcher = await client.watch().key('tls').create();
  const lease = client.lease(60);
  const [[pair]] = await Promise.all([once(watcher, 'put'), lease.put('tls').value('yes')]);
  assert.equal(pair.value.toString(), 'yes');
  await lease.revoke();
  assert.equal(await client.get('tls'), null);
  await watcher.cancel();
});

test('a certificate that nobody trusts is not believed', async (t) => {
  const client = clientOf(t, { hosts: `https://${host}` });
  await assert.rejects(client.get('k').string(), GRPCUnavailableError);
});

test('a client that does not speak TLS is not served', async (t) => {
  const client = clientOf(t, { hosts: `http://${host}` });
  await assert.rejects(client.get('k').string(), GRPCUnavailableError);
});
