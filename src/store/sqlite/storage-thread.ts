import { type MessagePort, workerData } from 'node:worker_threads'
import { systemClock } from '../../model/clock.ts'
import { Engine } from './commit.ts'
import { connect } from './connection.ts'
import { Db } from './db.ts'
import { noDisk, systemDisk } from './disk.ts'
import { loadDriver } from './driver.ts'
import { FileGuard, noGuard } from './guard.ts'
import { systemProcesses } from './processes.ts'
import { run } from './serve.ts'
import { nodeSqlite } from './sqlite.ts'

// The storage thread: everything that can wait for the disk happens here, so that the app's thread never does.

/** How often to look whether another process has changed the file, while someone here would want to know. */
const lookEvery = 20

export interface ThreadData {
  path: string
  port: MessagePort
  /** Bytes of free space under which submissions are refused; a quarter of it is set aside as a file. */
  diskReserve: number
  tends: boolean
  /** The URL of the app's better-sqlite3; null: node:sqlite. */
  driver: string | null
}
const { path, port, diskReserve, tends, driver } = workerData as ThreadData

async function open(): Promise<Engine> {
  const sqlite = driver === null ? nodeSqlite : await loadDriver(driver)
  const disk = path === ':memory:' ? noDisk : systemDisk(path, Math.floor(diskReserve / 4))
  const guard = path === ':memory:' ? noGuard : new FileGuard(path, sqlite)
  const open = () => connect(path, systemClock, () => new Db(path, systemClock, systemProcesses, sqlite), sqlite)
  return new Engine(path, systemClock, { disk, guard, diskReserve, open, tends, asksApp: true })
}

run(port, open, lookEvery)
