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

// Of an Error each: codes and numbers where both may stand.
const positions: [cause: string, ...messages: string[]][] = [
  ['connect EHOSTUNREACH #:27017', 'connect EHOSTUNREACH 10.0.3.17:27017'],
  ['listen EADDRINUSE: address already in use #:3000', 'listen EADDRINUSE: address already in use :::3000', 'listen EADDRINUSE: address already in use 0.0.0.0:3000'],
  ['connect ECONNREFUSED redis:6379', 'connect ECONNREFUSED redis:6379'],
  ['EACCES: permission denied, mkdir #', "EACCES: permission denied, mkdir '/var/lib/app/17'", "EACCES: permission denied, mkdir '/srv/b'"],
  ["Hostname/IP does not match certificate's altnames: Host: db.example.com. is not in the cert's altnames: DNS:*.example.net", "Hostname/IP does not match certificate's altnames: Host: db.example.com. is not in the cert's altnames: DNS:*.example.net"],
  ['certificate has expired', 'certificate has expired'],
  ['#:error:#:SSL routines:#:sslv3 alert handshake failure:../deps/openssl/openssl/ssl/record/#.c:#:SSL alert number 40', '80C8B1F77F7F0000:error:0A000410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:1586:SSL alert number 40', '90AAB1F77F7F0000:error:0A000410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:1590:SSL alert number 40'],
  ['Connect Timeout Error (attempted addresses: #:443, #:443, timeout: #)', 'Connect Timeout Error (attempted addresses: 104.18.2.1:443, 104.18.3.1:443, timeout: 10000ms)', 'Connect Timeout Error (attempted addresses: 104.18.9.1:443, 104.18.7.1:443, timeout: 5000ms)'],
  ["Response status code 418: I'm a Teapot", "Response status code 418: I'm a Teapot"],
  ["Timeout awaiting 'request' for #", "Timeout awaiting 'request' for 5000ms", "Timeout awaiting 'request' for 30000ms"],
  ["Timeout awaiting 'connect' for #", "Timeout awaiting 'connect' for 5000ms"],
  ['HTTP error! status: 500', 'HTTP error! status: 500'],
  ['HTTP error! status: 502', 'HTTP error! status: 502'],
  ['HTTP/1.1 504 Gateway Timeout', 'HTTP/1.1 504 Gateway Timeout'],
  ['502 for order #', '502 for order 7', '502 for order 1234', '502 for order a-7'],
  ['503 for order #', '503 for order 7'],
  ['payment refused (502 for order #)', 'payment refused (502 for order 7)', 'payment refused (502 for order 8)'],
  ['upstream 502 for order #', 'upstream 502 for order 7', 'upstream 502 for order 88'],
  ['got 500 from billing', 'got 500 from billing'],
  ['got 404 from billing', 'got 404 from billing'],
  ['error #', 'error 107', 'error 108', 'error 700'],
  ['error 503', 'error 503'],
  ['POST /v1/charges 402', 'POST /v1/charges 402'],
  ['POST /v1/charges/# -> 402', 'POST /v1/charges/17 -> 402', 'POST /v1/charges/99 -> 402'],
  ['GET https://api.example.com/items/# 404 (Not Found)', 'GET https://api.example.com/items/17 404 (Not Found)', 'GET https://api.example.com/items/404 404 (Not Found)'],
  ['404 - "{\\#:\\#}"', '404 - "{\\"message\\":\\"no such item 17\\"}"', '404 - "{\\"message\\":\\"no such item 18\\"}"'],
  ['529 {#:{#}}', '529 {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'],
  ['429 Rate limit reached for # in organization # on tokens per min (TPM): Limit #, Used #, Requested #. Please try again in #.', '429 Rate limit reached for gpt-4o in organization org-abc123 on tokens per min (TPM): Limit 30000, Used 29500, Requested 1200. Please try again in 1.4s.', '429 Rate limit reached for gpt-4o in organization org-abc123 on tokens per min (TPM): Limit 30000, Used 29990, Requested 310. Please try again in 600ms.'],
  ['Response Error: 429', 'Response Error: 429'],
  ['API error (500): internal', 'API error (500): internal'],
  ['Webhook to https://hooks.example.com/in/# failed: 410 Gone', 'Webhook to https://hooks.example.com/in/ab12 failed: 410 Gone', 'Webhook to https://hooks.example.com/in/cd34 failed: 410 Gone'],
  ['order #: 502', 'order 17: 502', 'order 18: 502'],
  ['order not found: #', 'order not found: 404', 'order not found: 503'],
  ['received # of # rows', 'received 120 of 500 rows', 'received 404 of 503 rows'],
  ['expected # rows, got #', 'expected 404 rows, got 150', 'expected 503 rows, got 151'],
  ['# rows lost', '500 rows lost', '404 rows lost'],
  ['batch of # items failed at item #', 'batch of 500 items failed at item 404', 'batch of 200 items failed at item 17'],
  ['balance: # EUR', 'balance: 500 EUR', 'balance: 404 EUR'],
  ['line #: missing column', 'line 404: missing column', 'line 17: missing column'],
  ['room # is closed', 'room 404 is closed', 'room 12 is closed'],
  ['failed after # attempts', 'failed after 3 attempts', 'failed after 500 attempts'],
  ['exited with 137', 'exited with 137'],
  ['Command failed with signal SIGTERM', 'Command failed with signal SIGTERM'],
  ['rsync error: some files/attrs were not transferred (code 23) at main.c(#) [sender=#]', 'rsync error: some files/attrs were not transferred (code 23) at main.c(1338) [sender=3.2.7]', 'rsync error: some files/attrs were not transferred (code 23) at main.c(1207) [sender=3.1.3]'],
  ['fatal: unable to access #: The requested URL returned error: 403', "fatal: unable to access 'https://github.com/acme/x-17.git/': The requested URL returned error: 403", "fatal: unable to access 'https://github.com/acme/y.git/': The requested URL returned error: 403"],
  ['(conn:#, no: #, SQLState: 40001) Deadlock found when trying to get lock', '(conn:17, no: 1213, SQLState: 40001) Deadlock found when trying to get lock', '(conn:18, no: 1213, SQLState: 40001) Deadlock found when trying to get lock'],
  ["Data too long for column 'name' at row #", "Data too long for column 'name' at row 1", "Data too long for column 'name' at row 17"],
  ['Access denied for user #@# (using password: YES)', "Access denied for user 'app'@'10.0.0.5' (using password: YES)", "Access denied for user 'app'@'10.0.0.9' (using password: YES)"],
  ['no pg_hba.conf entry for host #, user #, database "shop", SSL off', 'no pg_hba.conf entry for host "10.1.2.3", user "app", database "shop", SSL off', 'no pg_hba.conf entry for host "10.1.2.4", user "app", database "shop", SSL off'],
  ['WRONGTYPE Operation against a key holding the wrong kind of value', 'WRONGTYPE Operation against a key holding the wrong kind of value'],
  ['index_not_found_exception: [index_not_found_exception] Reason: no such index [#]', 'index_not_found_exception: [index_not_found_exception] Reason: no such index [logs-2026.11.28]', 'index_not_found_exception: [index_not_found_exception] Reason: no such index [logs-2026.11.29]'],
  ['[HTTP 400] Unable to create record: The # number +# is not a valid phone number.', "[HTTP 400] Unable to create record: The 'To' number +15005550009 is not a valid phone number.", "[HTTP 400] Unable to create record: The 'To' number +4915112345 is not a valid phone number."],
  ['SMTP 550 5.1.1 <#> unknown', 'SMTP 550 5.1.1 <ann@example.com> unknown', 'SMTP 550 5.1.1 <bob@example.org> unknown'],
  ['SMTP 550 5.7.1 <#> relaying denied', 'SMTP 550 5.7.1 <ann@example.com> relaying denied'],
  ['Message failed: 554 5.7.1 Service unavailable; Client host [#] blocked using zen.spamhaus.org', 'Message failed: 554 5.7.1 Service unavailable; Client host [203.0.113.7] blocked using zen.spamhaus.org', 'Message failed: 554 5.7.1 Service unavailable; Client host [203.0.113.8] blocked using zen.spamhaus.org'],
  ['4 DEADLINE_EXCEEDED: Deadline exceeded after #,LB pick: #,remote_addr=#', '4 DEADLINE_EXCEEDED: Deadline exceeded after 5.001s,LB pick: 0.001s,remote_addr=10.0.0.7:50051', '4 DEADLINE_EXCEEDED: Deadline exceeded after 4.998s,LB pick: 0.002s,remote_addr=10.0.0.8:50051'],
  ['13 INTERNAL: Received RST_STREAM with code 2 (Internal server error)', '13 INTERNAL: Received RST_STREAM with code 2 (Internal server error)'],
  ["P1001: Can't reach database server at #", "P1001: Can't reach database server at `db-7.internal`:`5432`", "P1001: Can't reach database server at `db-8.internal`:`5432`"],
  ['net::ERR_NAME_NOT_RESOLVED at https://#.example.com/', 'net::ERR_NAME_NOT_RESOLVED at https://shop-17.example.com/', 'net::ERR_NAME_NOT_RESOLVED at https://shop-18.example.com/'],
  ['Waiting for selector # failed: Waiting failed: # exceeded', 'Waiting for selector `#pay-button` failed: Waiting failed: 30000ms exceeded', 'Waiting for selector `#pay-button` failed: Waiting failed: 5000ms exceeded'],
  ['"email" must be a valid email', '"email" must be a valid email'],
  ['"name" must be a valid email', '"name" must be a valid email'],
  ['Signature expired: # is now earlier than # (# - #.)', 'Signature expired: 20261128T120000Z is now earlier than 20261128T121500Z (20261128T122000Z - 5 min.)', 'Signature expired: 20261129T010000Z is now earlier than 20261129T021500Z (20261129T022000Z - 5 min.)'],
  ['Lock for account # not acquired within #', 'Lock for account 8f14e45fceea167a5a36dedd4bea2543 not acquired within 5000 ms', 'Lock for account c9f0f895fb98ab9159f51fd0297e236d not acquired within 2 s'],
  ['Segmentation fault at #', 'Segmentation fault at 0x7ffee4b2a9c0', 'Segmentation fault at 0x10'],
] // biome-ignore format: a table

test('a status is told from an id and a count by where it stands, and by which there are', () => {
  const causes = new Set([...table.map(([cause]) => cause), ...positions.map(([cause]) => `Error: ${cause}`)])
  assert.equal(causes.size, table.length + positions.length)
  for (const [cause, ...messages] of positions)
    for (const message of messages) assert.equal(causeOf({ name: 'Error', message }, null), `Error: ${cause}`)
})

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
    'GET a',
    '-> ',
    'EAAAA ::',
    'EAAAA a:',
    'got 404 ',
    '404 a',
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
