import { defineConfig } from 'vite'

// Everything in files of our own, so that the page works under `default-src 'self'` and below any path of a proxy.
export default defineConfig({
  root: import.meta.dirname,
  base: './',
  build: {
    outDir: '../dist/dashboard',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: false,
    license: { fileName: 'licences.md' },
  },
})
