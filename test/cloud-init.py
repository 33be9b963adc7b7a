"""
Reads user data from standard input as cloud-init does at boot, and prints what it understands, as JSON.
With --run it runs the scripts, too, and cloud-init's words about that go to standard error.
"""
import json
import logging
import os
import sys
import tempfile

from types import SimpleNamespace

from cloudinit import handlers, helpers, log, util
from cloudinit.config import cc_scripts_user
from cloudinit.handlers.cloud_config import CloudConfigPartHandler
from cloudinit.handlers.jinja_template import JinjaTemplatePartHandler
from cloudinit.handlers.shell_script import ShellScriptPartHandler
from cloudinit.settings import PER_INSTANCE
from cloudinit.user_data import UserDataProcessor

with tempfile.TemporaryDirectory() as folder:
    paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder})
    message = UserDataProcessor(paths).process(sys.stdin.buffer.read())
    parts = [part for part in message.walk() if not part.is_multipart()]

    # What the handlers make of it: one merged cloud-config, and scripts in a folder that is run in the order of names.
    scripts = os.path.join(folder, "scripts")
    os.mkdir(scripts)
    config_file = os.path.join(folder, "config")
    paths.get_ipath = lambda name: config_file if name == "cloud_config" else None
    paths.get_ipath_cur = lambda name: scripts
    config = CloudConfigPartHandler(paths)
    script = ShellScriptPartHandler(paths)
    # Templates may ask for what the machine is; here that is nothing.
    util.write_file(paths.get_runpath("instance_data_sensitive"), "{}")
    template = JinjaTemplatePartHandler(paths, sub_handlers=[config, script])
    config.handle_part(None, handlers.CONTENT_START, None, None, PER_INSTANCE, {})
    for part in parts:
        payload = util.fully_decoded_payload(part)
        if part.get_content_type() == "text/x-shellscript":
            script.handle_part(None, "text/x-shellscript", part.get_filename(), payload, PER_INSTANCE)
        elif part.get_content_type() == "text/jinja2":
            headers = dict(part.items())
            template.handle_part(None, "text/jinja2", part.get_filename(), payload, PER_INSTANCE, headers)
        elif part.get_content_type() == "text/cloud-config":
            headers = dict(part.items())
            config.handle_part(None, "text/cloud-config", part.get_filename(), payload, PER_INSTANCE, headers)
    config.handle_part(None, handlers.CONTENT_END, None, None, PER_INSTANCE, {})
    merged = util.load_file(config_file) if os.path.exists(config_file) else ""
    print(
        json.dumps(
            {
                "parts": [{"type": part.get_content_type(), "name": part.get_filename()} for part in parts],
                "config": merged,
                "values": util.load_yaml(merged) if merged else {},
                "scripts": {name: util.load_file(os.path.join(scripts, name)) for name in sorted(os.listdir(scripts))},
            }
        )
    )
    if "--run" in sys.argv:
        sys.stdout.flush()
        log.setupBasicLogging(logging.WARNING)
        cloud = SimpleNamespace(get_ipath_cur=lambda name=None: folder)
        try:
            cc_scripts_user.handle("scripts-user", {}, cloud, logging.getLogger(), [])
        except RuntimeError:
            pass
