import type { GopherQueueError } from '../../model/errors.ts'
import type { Input, Operation } from '../store.ts'

export interface Request<K extends Operation = Operation> {
  seq: number
  /** 'forget' takes back the request whose seq is its input; 'close' ends the thread. */
  operation: K | 'forget' | 'close'
  input: Input<K>
  /** Whose doing it is: for the audit log what operators do, and of clients on the network the queues that they make. */
  who?: string
  /** Of the file that gave the token or worker id in it; undefined: it was given in this process. */
  epoch?: string | undefined
}
export type Reply = { seq: number; value: unknown } | { seq: number; error: GopherQueueError }
