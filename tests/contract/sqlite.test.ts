import { contractOnFile } from './onfile.ts'

contractOnFile('SQLite file in its storage thread')
