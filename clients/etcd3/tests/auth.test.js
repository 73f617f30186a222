// Users and roles, and what each may do once everybody is asked who they are. These tests switch users on
// and off for the whole server; files are run one after the other.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const test = require('node:test');
const etcd3 = require('etcd3');
const { brief, clientOf, eventually, fresh } = require('./support');

async function wipe(client) {
  await Promise.all((await client.getUsers()).map((user) => user.delete()));
  await Promise.all((await client.getRoles()).map((role) => role.delete()));
}

test('roles are added, listed, looked at and deleted', async (t) => {
  const client = clientOf(t);
  const role = await client.role('r').create();
  assert.deepEqual((await client.getRoles()).map((entry) => entry.name), ['r']);
  await assert.rejects(client.role('r').create(), etcd3.EtcdRoleExistsError);
  const grants = [
    { permission: 'Read', range: client.range({ prefix: 'a' }) },
    { permission: 'Write', key: 'exactly' },
    { permission: 'Readwrite', range: client.range({ start: 'm', end: 'n' }) },
  ];
  await role.grant(grants);
  const told = await role.permissions();
  assert.deepEqual(told.map((entry) => entry.permission).sort(), ['Read', 'Readwrite', 'Write']);
  const read = told.find((entry) => entry.permission === 'Read');
  assert.equal(read.range.compare(client.range({ prefix: 'a' })), 0);
  // One at a time: given several, this client grants them once more.
  for (const grant of grants) {
    await role.revoke(grant);
  }
  assert.deepEqual(await role.permissions(), []);
  await assert.rejects(role.revoke(grants[1]), /permission is not granted to the role/);
  await role.delete();
  assert.deepEqual(await client.getRoles(), []);
  await assert.rejects(role.delete(), etcd3.EtcdRoleNotFoundError);
  await assert.rejects(role.grant(grants[0]), etcd3.EtcdRoleNotFoundError);
  await assert.rejects(role.permissions(), etcd3.EtcdRoleNotFoundError);
});

test('users are added, given roles, and deleted', async (t) => {
  const client = clientOf(t);
  const role = await client.role('r').create();
  const user = await client.user('u').create('pw');
  assert.deepEqual((await client.getUsers()).map((entry) => entry.name), ['u']);
  await assert.rejects(client.user('u').create('pw'), etcd3.EtcdUserExistsError);
  await user.addRole(role);
  assert.deepEqual((await user.roles()).map((entry) => entry.name), ['r']);
  await user.removeRole('r');
  assert.deepEqual(await user.roles(), []);
  await role.addUser(user);
  await role.removeUser('u');
  await assert.rejects(user.removeRole('r'), etcd3.EtcdRoleNotGrantedError);
  await assert.rejects(user.addRole('nobody'), etcd3.EtcdRoleNotFoundError);
  await user.setPassword('other');
  await user.delete();
  await assert.rejects(user.delete(), etcd3.EtcdUserNotFoundError);
  await assert.rejects(user.roles(), etcd3.EtcdUserNotFoundError);
  await role.delete();
});

test('users cannot be switched on without root', async (t) => {
  await assert.rejects(clientOf(t).auth.authEnable(), /root user does not exist/);
});

test('with users on, each does what its roles allow', async (t) => {
  const { client, prefix } = fresh(t);
  const inside = `${prefix}mine/`;
  const root = await client.user('root').create('rootpw');
  await root.addRole(await client.role('root').create());
  const role = await client.role('mine').create();
  await role.grant({ permission: 'Readwrite', range: client.range({ prefix: inside }) });
  await (await client.user('alice').create('alicepw')).addRole(role);
  await client.put(`${prefix}secret`).value('s');
  await client.auth.authEnable();
  const as = (username, password) => clientOf(t, { auth: { username, password } });
  const [boss, alice] = [as('root', 'rootpw'), as('alice', 'alicepw')];
  const denied = etcd3.EtcdPermissionDeniedError;
  try {
    await t.test('a key of one\'s own can be written, read and deleted', async () => {
      await alice.put(`${inside}k`).value('1');
      assert.equal(await alice.get(`${inside}k`), '1');
      assert.equal((await alice.delete().prefix(inside)).deleted, '1');
    });
    await t.test('others\' keys cannot, alone or in a transaction', async () => {
      await assert.rejects(alice.get(`${prefix}secret`).string(), denied);
      await assert.rejects(alice.put(`${prefix}secret`).value('x').exec(), denied);
      await assert.rejects(alice.getAll().prefix(prefix).keys(), denied);
      const within = alice.if(`${inside}k`, 'Version', '==', 0)
        .then(alice.put(`${inside}k`).value('1'), alice.delete().key(`${prefix}secret`));
      await assert.rejects(within.commit(), denied);
      assert.equal(await boss.get(`${prefix}secret`), 's');
    });
    await t.test('one\'s own keys can be watched, and others\' cannot', async () => {
      const watcher = await alice.watch().key(`${inside}w`).create();
      await Promise.all([once(watcher, 'put'), boss.put(`${inside}w`).value('1')]);
      await watcher.cancel();
      await assert.rejects(alice.watch().key(`${prefix}secret`).create(), denied);
    });
    await t.test('users, members and maintenance are root\'s', async () => {
      await assert.rejects(alice.getUsers(), denied);
      await assert.rejects(alice.role('more').create(), denied);
      // A client of its own: etcd 3.5.1 says this with a code after which this client asks no more.
      const another = as('alice', 'alicepw');
      await assert.rejects(another.maintenance.defragment(), /permission denied/);
      assert.equal((await boss.getUsers()).length, 2);
      assert.equal((await boss.auth.authStatus()).enabled, true);
      await boss.maintenance.defragment();
    });
    await t.test('leases, locks and software transactions work within one\'s rights', async () => {
      const space = alice.namespace(inside);
      const lease = space.lease(60);
      await Promise.all([once(lease, 'keepaliveSucceeded'), lease.put('leased').value('1')]);
      await lease.revoke();
      await space.lock('lock').do(() => {});
      await space.stm().transact((tx) => tx.put('stm').value('1'));
    });
    await t.test('who is wrong, or nobody, is told so', async () => {
      const wrong = as('alice', 'guessed').get(`${inside}k`).string();
      await assert.rejects(wrong, etcd3.EtcdAuthenticationFailedError);
      const nobody = as('nobody', 'pw').get(`${inside}k`).string();
      await assert.rejects(nobody, etcd3.EtcdAuthenticationFailedError);
      await assert.rejects(client.get(`${inside}k`).string(), /user name is empty/);
    });
    await t.test('a right that is taken away is gone', async () => {
      await boss.role('mine').revoke({
        permission: 'Readwrite', range: boss.range({ prefix: inside }),
      });
      await eventually(() => alice.get(`${inside}k`).string().then(() => false, (reason) => {
        assert.ok(reason instanceof denied, reason);
        return true;
      }));
    });
  } finally {
    await boss.auth.authDisable();
  }
  await wipe(client);
});

test('a token that has ended is fetched anew', async (t) => {
  const client = clientOf(t, { hosts: brief });
  const root = await client.user('root').create('rootpw');
  await root.addRole(await client.role('root').create());
  await client.auth.authEnable();
  const boss = clientOf(t, { hosts: brief, auth: { username: 'root', password: 'rootpw' } });
  try {
    const { token } = await client.auth.authenticate({ name: 'root', password: 'rootpw' });
    assert.ok(token.length > 0);
    await boss.put('k').value('1');
    // A token is good for two seconds after its last use: `cargo xtask clients` starts this server so.
    await new Promise((resolve) => setTimeout(resolve, 4000));
    await boss.put('k').value('2');
    assert.equal(await boss.get('k'), '2');
  } finally {
    await boss.auth.authDisable();
  }
  await wipe(client);
});
