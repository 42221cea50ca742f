/** What went wrong with a statement, as the thread that speaks to the server tells it. */
export interface Fault {
  message: string
  /** SQLSTATE; '08006' when the connection was lost. */
  sqlstate: string
}

const lost = /^(08|57P0[123]|25P03)/
/** Resources, the operator, the system, corruption, the lock, an aborted transaction, a standby, tables, columns or rights that are gone. */
const storage = /^(08|25006|25P0[23]|40|53|55P03|57|58|XX|42P01|42501|42703|3F000|3D000|28)/
const constraint = /^2[23]/

/** An error of PostgreSQL, or of the way to it. `errcode`: what the engine knows it by, SQLite's code for the like. */
export class ServerError extends Error {
  override readonly name = 'ServerError'
  readonly sqlstate: string
  /** 10: the storage's trouble; 19: a constraint's; 1: the statement's. 5: the transaction, of which nothing was committed, is worth another try. */
  readonly errcode: number

  constructor({ message, sqlstate }: Fault, again = false) {
    super(sqlstate === '55P03' ? `another transaction keeps the queue's lock or a row of it; 'gopherqueue doctor' names who has the lock (${message})` : message) // biome-ignore format: one message
    this.sqlstate = sqlstate
    this.errcode = again && lost.test(sqlstate) ? 5 : storage.test(sqlstate) ? 10 : constraint.test(sqlstate) ? 19 : 1
  }

  /** Nobody knows what became of the statements that were under way. */
  get lost(): boolean {
    return lost.test(this.sqlstate)
  }
}

export const lostConnection = '08006'
