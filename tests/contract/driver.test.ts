import { contractOnFile } from './onfile.ts'

const driver = import.meta.resolve('better-sqlite3')
contractOnFile("SQLite file in its storage thread, on the app's better-sqlite3", { driver })
