import { statSync } from 'node:fs'
import type { Command } from 'commander'
import { backup } from '../store/sqlite/backup.ts'
import { fileOf } from './arguments.ts'
import { forPeople, print, safe, show } from './output.ts'

export function backupCommand(root: Command): void {
  root
    .command('backup')
    .description('write the whole queue, as of one instant, into a new file; everything else goes on meanwhile')
    .argument('<file>', 'the file to make')
    .option('--force', 'replace a file that is there')
    .addHelpText('after', restore)
    .action((file: string, { force }: { force?: true }, command: Command) => {
      backup(fileOf(command), file, force === true)
      const { size } = statSync(file)
      show({ file, bytes: size }, () => print(forPeople ? `${safe(file)} is whole and on disk (${size} bytes).` : file))
    })
}

const restore = `
To restore: stop all processes of the queue, move its file, its -wal and its -shm away (all three: an old -wal spoils
the restored file), and copy the backup into the file's place.`
