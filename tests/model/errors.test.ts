import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asQueueError, GopherQueueError, invalid, PermanentError, TemporaryError } from '../../src/model/errors.ts'

test('an error carries its code, what became of the submission, and its cause', () => {
  const cause = new Error('disk')
  const error = new GopherQueueError('STORAGE_UNAVAILABLE', 'no luck', {
    accepted: 'unknown',
    details: { at: 1 },
    cause,
  })
  assert.ok(error instanceof Error)
  const { name, code, message, accepted, details } = error
  assert.deepEqual(
    { name, code, message, accepted, details },
    {
      name: 'GopherQueueError',
      code: 'STORAGE_UNAVAILABLE',
      message: 'no luck',
      accepted: 'unknown',
      details: { at: 1 },
    },
  )
  assert.equal(error.cause, cause)
})

test('unless said otherwise nothing was accepted, and there is no cause', () => {
  const error = new GopherQueueError('QUEUE_FULL', 'full')
  assert.equal(error.accepted, 'no')
  assert.equal(Object.hasOwn(error, 'cause'), false)
})

test('a refused argument says that nothing was stored', () => {
  const { code, accepted, message } = invalid('priority is wrong.')
  assert.deepEqual([code, accepted, message], ['INVALID_ARGUMENT', 'no', 'priority is wrong. Nothing was changed.'])
})

test('handlers classify by class: permanent, temporary with or without a time', () => {
  assert.equal(new PermanentError('never').name, 'PermanentError')
  assert.equal(new TemporaryError('later').retryAfter, undefined)
  const cause = new Error('503')
  const error = new TemporaryError('later', { retryAfter: '5m', cause })
  assert.deepEqual([error.name, error.retryAfter, error.cause], ['TemporaryError', '5m', cause])
})

test('of what another error took effect, nobody knows', () => {
  const cause = new TypeError('boom')
  const error = asQueueError(cause)
  assert.deepEqual([error.code, error.accepted, error.cause], ['STORAGE_UNAVAILABLE', 'unknown', cause])
})
