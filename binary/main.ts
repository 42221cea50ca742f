import { main } from '../src/cli/program.ts'

main()
