import assert from 'node:assert/strict'
import { test } from 'node:test'
import { causeOf, shortError } from '../../src/model/cause.ts'

// Messages as libraries write them. A line of one cause holds all that must fall together; no two causes are one.
const table: [cause: string, ...errors: [name: string, message: string][]][] = [
  ['AxiosError: Request failed with status code 404', ['AxiosError', 'Request failed with status code 404']],
  ['AxiosError: Request failed with status code 503', ['AxiosError', 'Request failed with status code 503']],
  ['AxiosError: timeout of # exceeded', ['AxiosError', 'timeout of 5000ms exceeded'], ['AxiosError', 'timeout of 30000ms exceeded']],
  ['HTTPError: Response code 404 (Not Found)', ['HTTPError', 'Response code 404 (Not Found)']],
  ['HTTPError: Response code 500 (Internal Server Error)', ['HTTPError', 'Response code 500 (Internal Server Error)']],
  ['Error: HTTP 429 Too Many Requests', ['Error', 'HTTP 429 Too Many Requests']],
  ['Error: 503 Service Unavailable', ['Error', '503 Service Unavailable']],
  ['Error: upstream said (502)', ['Error', 'upstream said (502)']],
  ['Error: GET https://api.example.com/v1/orders/# returned 503', ['Error', 'GET https://api.example.com/v1/orders/4711 returned 503'], ['Error', 'GET https://api.example.com/v1/orders/9f-3?page=2 returned 503']],
  ['Error: GET https://api.example.com/v1/orders/# returned 404', ['Error', 'GET https://api.example.com/v1/orders/4711 returned 404']],
  ['FetchError: request to http://localhost:3000/orders/# failed, reason: connect ECONNREFUSED #:3000', ['FetchError', 'request to http://localhost:3000/orders/17 failed, reason: connect ECONNREFUSED 127.0.0.1:3000']],
  ['Error: connect ECONNREFUSED #:5432', ['Error', 'connect ECONNREFUSED 127.0.0.1:5432'], ['Error', 'connect ECONNREFUSED 10.1.2.3:5432'], ['Error', 'connect ECONNREFUSED ::1:5432']],
  ['Error: connect ECONNREFUSED #:6379', ['Error', 'connect ECONNREFUSED 10.1.2.3:6379']],
  ['Error: connect ETIMEDOUT #:443', ['Error', 'connect ETIMEDOUT 52.1.2.3:443'], ['Error', 'connect ETIMEDOUT 52.99.1.7:443']],
  ['Error: read ECONNRESET', ['Error', 'read ECONNRESET']],
  ['Error: write EPIPE', ['Error', 'write EPIPE']],
  ['Error: getaddrinfo ENOTFOUND #.internal', ['Error', 'getaddrinfo ENOTFOUND db-7.internal'], ['Error', 'getaddrinfo ENOTFOUND db-12.internal']],
  ['Error: getaddrinfo EAI_AGAIN api.stripe.com', ['Error', 'getaddrinfo EAI_AGAIN api.stripe.com']],
  ['Error: ENOENT: no such file or directory, open #', ['Error', "ENOENT: no such file or directory, open '/data/in/17.csv'"], ['Error', "ENOENT: no such file or directory, open '/data/in/report.csv'"]],
  ['Error: EMFILE: too many open files, open #', ['Error', "EMFILE: too many open files, open '/etc/hosts'"]],
  ['Error: ENOSPC: no space left on device, write', ['Error', 'ENOSPC: no space left on device, write']],
  ['Error: spawn ffmpeg ENOENT', ['Error', 'spawn ffmpeg ENOENT']],
  ['Error: Command failed with exit code 137: ffmpeg -i /tmp/#', ['Error', 'Command failed with exit code 137: ffmpeg -i /tmp/a17/x.mp4'], ['Error', 'Command failed with exit code 137: ffmpeg -i /tmp/zz']],
  ['Error: Command failed with exit code 1: ffmpeg -i /tmp/#', ['Error', 'Command failed with exit code 1: ffmpeg -i /tmp/zz']],
  ['Error: The process exited with signal SIGKILL', ['Error', 'The process exited with signal SIGKILL']],
  ["TypeError: Cannot read properties of undefined (reading 'id')", ['TypeError', "Cannot read properties of undefined (reading 'id')\n    at f (x.js:1:2)"]],
  ["TypeError: Cannot read properties of undefined (reading 'name')", ['TypeError', "Cannot read properties of undefined (reading 'name')"]],
  ['TypeError: order.total is not a function', ['TypeError', 'order.total is not a function']],
  ['RangeError: Maximum call stack size exceeded', ['RangeError', 'Maximum call stack size exceeded']],
  ['SyntaxError: Unexpected token # is not valid JSON', ['SyntaxError', `Unexpected token '<', "<!DOCTYPE" is not valid JSON`], ['SyntaxError', `Unexpected token 'o', "oops" is not valid JSON`]],
  ['SyntaxError: Unexpected end of JSON input', ['SyntaxError', 'Unexpected end of JSON input']],
  ['SyntaxError: Unexpected token < in JSON at position #', ['SyntaxError', 'Unexpected token < in JSON at position 17'], ['SyntaxError', 'Unexpected token < in JSON at position 0']],
  ['error: duplicate key value violates unique constraint "users_email_key"', ['error', 'duplicate key value violates unique constraint "users_email_key"']],
  ['error: duplicate key value violates unique constraint "orders_number_key"', ['error', 'duplicate key value violates unique constraint "orders_number_key"']],
  ['error: relation "users" does not exist', ['error', 'relation "users" does not exist']],
  ['error: column "foo" of relation "bar" does not exist', ['error', 'column "foo" of relation "bar" does not exist']],
  ['error: invalid input syntax for type uuid: #', ['error', 'invalid input syntax for type uuid: "12ab"'], ['error', 'invalid input syntax for type uuid: "oops"']],
  ['error: invalid input syntax for type integer: #', ['error', 'invalid input syntax for type integer: "abc"']],
  ['error: canceling statement due to statement timeout', ['error', 'canceling statement due to statement timeout']],
  ['error: deadlock detected', ['error', 'deadlock detected']],
  ['error: password authentication failed for user #', ['error', 'password authentication failed for user "app"'], ['error', 'password authentication failed for user "app17"']],
  ["Error: ER_DUP_ENTRY: Duplicate entry # for key 'users.email'", ['Error', "ER_DUP_ENTRY: Duplicate entry 'bob@x.de' for key 'users.email'"], ['Error', "ER_DUP_ENTRY: Duplicate entry '17-4' for key 'users.email'"]],
  ['Error: SQLITE_BUSY: database is locked', ['Error', 'SQLITE_BUSY: database is locked']],
  ['Error: SQLITE_CONSTRAINT_UNIQUE: UNIQUE constraint failed: users.email', ['Error', 'SQLITE_CONSTRAINT_UNIQUE: UNIQUE constraint failed: users.email']],
  ['Error: SQLSTATE[23505]: Unique violation', ['Error', 'SQLSTATE[23505]: Unique violation']],
  ['Error: ORA-00942: table or view does not exist', ['Error', 'ORA-00942: table or view does not exist']],
  ['MongoServerError: E11000 duplicate key error collection: app.users dup key: { email: # }', ['MongoServerError', 'E11000 duplicate key error collection: app.users dup key: { email: "a@b.c" }'], ['MongoServerError', 'E11000 duplicate key error collection: app.users dup key: { email: "z@b.c" }']],
  ['PrismaClientKnownRequestError: Invalid `prisma.user.create()` invocation:', ['PrismaClientKnownRequestError', '\nInvalid `prisma.user.create()` invocation:\n\n\nUnique constraint failed']],
  ['PrismaClientKnownRequestError: P2002: Unique constraint failed on the fields: (`email`)', ['PrismaClientKnownRequestError', 'P2002: Unique constraint failed on the fields: (`email`)']],
  ['PrismaClientKnownRequestError: P2025: No record was found', ['PrismaClientKnownRequestError', 'P2025: No record was found']],
  ['StripeInvalidRequestError: No such customer: #', ['StripeInvalidRequestError', "No such customer: 'cus_NffrFeUfNV2Hib'"], ['StripeInvalidRequestError', "No such customer: 'cus_ABCDEFGHijklmn'"]],
  ['StripeCardError: Your card was declined.', ['StripeCardError', 'Your card was declined.']],
  ['StripeRateLimitError: Too many requests. Request #', ['StripeRateLimitError', 'Too many requests. Request req_8fjfD2s'], ['StripeRateLimitError', 'Too many requests. Request req_AbCdEfGhIj']],
  ['Error: Invalid login: 535-5.7.8 Username and Password not accepted.', ['Error', 'Invalid login: 535-5.7.8 Username and Password not accepted.']],
  ['Error: Message failed: 550 5.1.1 <#>: User unknown', ['Error', 'Message failed: 550 5.1.1 <bob@example.com>: User unknown'], ['Error', 'Message failed: 550 5.1.1 <ada.l+x@mail.example.org>: User unknown']],
  ['Error: Message failed: 552 5.2.2 <#>: Mailbox full', ['Error', 'Message failed: 552 5.2.2 <bob@example.com>: Mailbox full']],
  ["Error: Can't send mail - all recipients were rejected: 421 Try again later", ['Error', "Can't send mail - all recipients were rejected: 421 Try again later"]],
  ['NoSuchKey: The specified key does not exist.', ['NoSuchKey', 'The specified key does not exist.']],
  ['AccessDenied: User: # is not authorized to perform: s3:GetObject', ['AccessDenied', 'User: arn:aws:iam::123456789012:user/bob is not authorized to perform: s3:GetObject']],
  ['ThrottlingException: Rate exceeded', ['ThrottlingException', 'Rate exceeded']],
  ['Error: 14 UNAVAILABLE: No connection established', ['Error', '14 UNAVAILABLE: No connection established']],
  ['Error: 5 NOT_FOUND: no entity #', ['Error', '5 NOT_FOUND: no entity 17']],
  ['ReplyError: MOVED # #:6381', ['ReplyError', 'MOVED 3999 127.0.0.1:6381']],
  ['Error: order # of # is locked', ['Error', 'order ord_9f8a7 of 3f2504e0-4f89-11d3-9a0c-0305e82c3301 is locked'], ['Error', 'order 12 of DEADBEEF01 is locked'], ['Error', 'order #404 of 0x7ffe is locked']],
  ['Error: order # not found', ['Error', 'order 404 not found'], ['Error', 'order 503 not found']],
  ['Error: job # took # at #', ['Error', 'job 17 took 1.5 s at 2026-11-27T18:37:35.123Z'], ['Error', 'job 18 took 300 ms at Fri, 27 Nov 2026 18:37:35 GMT'], ['Error', 'job 19 took 2min at 18:37']],
  ['Error: file of # exceeds #', ['Error', 'file of 12 MB exceeds 10 MB'], ['Error', 'file of 3.5KiB exceeds 2 bytes'], ['Error', 'file of 1,234 bytes exceeds 99 %']],
  ['Error: ids # missing', ['Error', 'ids 1, 2, 3 missing'], ['Error', 'ids 7 and 9 missing'], ['Error', 'ids 4 missing']],
  ['Error: Unsupported digest sha256 for S3 object #', ['Error', 'Unsupported digest sha256 for S3 object 9af3']],
  ["Error: Host: a.b is not in the cert's altnames: DNS:*.c", ['Error', "Host: a.b is not in the cert's altnames: DNS:*.c"]],
  ['LeaseLost: Its process ended while it ran alone (process # of worker # is gone).', ['LeaseLost', 'Its process ended while it ran alone (process 123 of worker w-1 is gone).'], ['LeaseLost', 'Its process ended while it ran alone (process 99 of worker w-2 is gone).']],
  ['Timeout: The attempt ran longer than its timeout of #.', ['Timeout', 'The attempt ran longer than its timeout of 900000 ms.'], ['Timeout', 'The attempt ran longer than its timeout of 30000 ms.']],
] // biome-ignore format: a table

test('real messages: what differs from job to job falls together, codes and names stay apart', () => {
  assert.ok(table.length >= 60)
  assert.equal(new Set(table.map(([cause]) => cause)).size, table.length)
  for (const [cause, ...errors] of table)
    for (const [name, message] of errors) assert.equal(causeOf({ name, message }, null), cause)
})

test('a job that died without an error is counted by its reason', () => {
  assert.equal(causeOf(null, 'expired'), 'expired')
})

test('a cause is bounded, well formed and made in linear time, whatever the message', () => {
  const message = (unit: string) => unit.repeat(Math.ceil(8192 / unit.length))
  for (const unit of [
    '"',
    "'",
    '`a',
    'a@',
    'http://a',
    '1:',
    '::',
    '1.',
    '#',
    ', ',
    'code ',
    '(',
    '\u{1F600}',
    '\ud83d',
    '\ue001',
    '\0',
    ' ',
    '\n',
    'x_',
  ]) {
    const cause = causeOf({ name: unit, message: message(unit) }, null)
    assert.ok(cause.length <= 200 && cause.isWellFormed() && !cause.includes('\n'), unit)
  }
  assert.equal(causeOf({ name: 'E', message: '\ue001\ue009' }, null), 'E: #')
  // What is printed is what is given back.
  const marked = '\u001b[31mred\u001b[0m\tand \u202eturned\u0000, half \ud83d, \ufffd no UTF-8'
  assert.equal(causeOf({ name: 'E', message: marked }, null), 'E: red and turned , half , no UTF-8')
})

test('an error in a list is its name and first line, at most 200 characters', () => {
  assert.equal(shortError({ name: 'Error', message: '\n no order 17\nat x' }), 'Error: no order 17')
  assert.equal(shortError({ name: 'Error', message: 'x'.repeat(500) }).length, 200)
})
