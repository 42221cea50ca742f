import { type Command, InvalidArgumentError } from 'commander'
import { systemClock } from '../model/clock.ts'
import { toMs } from '../model/duration.ts'
import { invalid } from '../model/errors.ts'
import { checkName } from '../model/job.ts'
import { type Scope, scopes } from '../model/token.ts'
import { isPostgres } from '../queue/options.ts'
import { ownStore } from '../queue/place.ts'
import { makeToken } from '../server/auth.ts'
import { mustExist } from '../store/sqlite/reader.ts'
import { databaseOf, deadline, readerOf, who } from './arguments.ts'
import { forPeople, json, print, show, table, toLine, when } from './output.ts'

/** Who may call a server on the file. It is the file's owner who says so, not the server. */
export function tokenCommand(root: Command): void {
  const group = root.command('token').description('who may call a server on this file: create, list, revoke')
  group
    .command('create')
    .description('make a token and show it, this once; the file, created if need be, keeps a hash of it')
    .argument('<name>', 'whose it is, for the list and the audit log')
    .requiredOption('--scope <scopes>', `what it is for: some of ${scopes} (which includes the others)`, scopesOf)
    .option(
      '--expires <when>',
      'from when on it is refused: a duration such as 90d, or a date; default never',
      deadline,
    )
    .addHelpText('after', '\nFrom the first token on, a running server asks for one within a second.')
    .action(create)
  group.command('list').description('show all tokens, without the tokens themselves').action(list)
  group
    .command('revoke')
    .description('refuse a token for ever; a running server does within a second')
    .argument('<name>', 'as it was created')
    .action(revoke)
}

type Wanted = { scope: Scope[]; expires?: number | string }

async function create(name: string, { scope, expires }: Wanted, command: Command): Promise<void> {
  const expiresAt = expires === undefined ? null : typeof expires === 'number' ? expires : systemClock.now() + toMs(expires, '--expires') // biome-ignore format: one line
  if (expiresAt !== null && expiresAt <= systemClock.now())
    throw invalid('--expires is over already: name a time that is to come, such as 90d.')
  await using store = await ownStore(databaseOf(command))
  const { token, hash } = makeToken()
  await store.call('createToken', { name: checkName('token', name), scopes: scope, hash, expiresAt }, undefined, who())
  show({ name, scopes: scope, token, expiresAt }, () => print(token))
  if (forPeople) process.stderr.write('It is not shown again: keep it as a secret, in GOPHERQUEUE_TOKEN of its user.\n')
}

async function list(_: unknown, command: Command): Promise<void> {
  const place = databaseOf(command)
  await using store = isPostgres(place) ? await ownStore(place) : readerOf(command)
  const tokens = (await store.call('tokens', null)).map(({ hash: _, ...shown }) => shown)
  if (json) return void tokens.map((token) => print(toLine(token)))
  const rows = tokens.map(({ name, scopes, ...at }) => [
    ...[name, `${scopes}`],
    ...[at.createdAt, at.lastUsedAt, at.revokedAt, at.expiresAt].map((instant) =>
      instant === null ? '-' : when(instant),
    ),
  ])
  table(['NAME', 'SCOPES', 'CREATED', 'LAST USED', 'REVOKED', 'EXPIRES'], rows)
}

async function revoke(name: string, _: unknown, command: Command): Promise<void> {
  const place = databaseOf(command)
  if (!isPostgres(place)) mustExist(place)
  await using store = await ownStore(place)
  await store.call('revokeToken', name, undefined, who())
  show({ name, revoked: true }, () => table([], [[name, 'revoked']]))
}

function scopesOf(text: string): Scope[] {
  const given = text.split(',')
  const unknown = given.find((one) => !scopes.includes(one as Scope))
  if (unknown !== undefined) throw new InvalidArgumentError(`There is no scope '${unknown}'; choose from ${scopes}.`)
  return scopes.filter((scope) => given.includes(scope))
}
