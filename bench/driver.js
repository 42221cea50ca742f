// As adapter.js, on the app's better-sqlite3 in place of node:sqlite.
import open from './adapter.js'

export default ({ dir }) => open({ dir, driver: import.meta.resolve('better-sqlite3') })
