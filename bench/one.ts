// One system, one workload, in a process of its own. Prints one line of JSON.
import { pathToFileURL } from 'node:url'
import { type System, workloads } from './workloads.ts'

const [file = '', workload = '', scale = '1', dir = '.'] = process.argv.slice(2)
const { default: open } = (await import(pathToFileURL(file).href)) as {
  default: (o: { dir: string }) => Promise<System>
}
const system = await open({ dir })
const figures = await workloads[workload]!(system, (count) => Math.max(10, Math.round(count * Number(scale))))
console.log(JSON.stringify({ ...figures, megabytes: process.resourceUsage().maxRSS / 1000 }))
await system.close()
process.exit()
