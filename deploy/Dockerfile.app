# An app that embeds the queue: copy this to your app's folder, beside its package.json and package-lock.json.
# docker build -f Dockerfile.app -t app .
# docker run -d -v app:/data app                                 # a worker; 10 s of `docker stop` are enough for it
# docker run -d -v app:/data -p 3000:3000 app node web.ts        # the web process, on the same machine and volume
# Keep node_modules, .git and *.db* out of the image with a .dockerignore; an app that is compiled: docs/deploy.md.
# /data must be a local disk, and a folder: a file that is mounted by itself is refused.
FROM docker.io/library/node:24-slim
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund
COPY . .
RUN mkdir /data && chown node:node /data
USER node
ENV QUEUE=/data/jobs.db NODE_ENV=production
VOLUME /data
STOPSIGNAL SIGTERM
# Node itself, and not npm or a shell: it is process 1, and gets the signal.
CMD ["node", "worker.ts"]
