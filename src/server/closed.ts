import type { ServerResponse } from 'node:http'

/** Nothing of it is read any more: it was sent, or its client has gone. */
export const isClosed = ({ destroyed, req }: ServerResponse): boolean => destroyed || req.socket.destroyed

/**
 * Calls when an answer is sent or its client gone, at once where that has happened: 'close' comes once, and what waits for it too
 * late keeps its timer, memory or place for ever. Answers with what takes the call back.
 */
export function whenClosed(response: ServerResponse, call: () => void): () => void {
  if (isClosed(response)) call()
  else response.once('close', call)
  return () => response.off('close', call)
}
