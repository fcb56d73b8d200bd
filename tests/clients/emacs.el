;; Emacs completes at point through a client of its own and our language server, and saves: emacs --batch -l emacs.el
;; The environment tells the rest: CODEGEMMA_CLIENT (eglot or lsp-mode), CODEGEMMA_SERVER (a command of words),
;; CODEGEMMA_FILE, CODEGEMMA_LINE, CODEGEMMA_TYPED.

(defvar client (intern (getenv "CODEGEMMA_CLIENT")))
(defvar command (split-string (getenv "CODEGEMMA_SERVER")))
(defvar status '(:command "codegemma.status" :arguments []))
(require client)
(setq make-backup-files nil create-lockfiles nil)

(defun start-eglot ()
  (setq eglot-sync-connect 120 eglot-connect-timeout 120)
  (add-to-list 'eglot-server-programs (cons 'python-mode command))
  (call-interactively #'eglot))

(defun start-lsp-mode ()
  (require 'lsp-completion)
  (setq lsp-auto-guess-root t lsp-guess-root-without-session t lsp-enable-snippet nil lsp-response-timeout 120
        lsp-enable-file-watchers nil lsp-warn-no-matched-clients nil lsp-auto-configure nil)
  (lsp-register-client (make-lsp-client :new-connection (lsp-stdio-connection (lambda () command))
                                        :activation-fn (lambda (&rest _) t) :add-on? t :server-id 'codegemma))
  (lsp)
  (lsp-completion-mode 1))

(defun ready-p ()
  (if (eq client 'eglot)
      (let ((server (eglot-current-server)))
        (and server
             (eq t (plist-get (jsonrpc-request server :workspace/executeCommand status :timeout 120) :ready))))
    (let ((workspace (car (lsp-workspaces))))
      (and workspace
           (eq 'initialized (lsp--workspace-status workspace))
           (eq t (lsp-get (lsp-request "workspace/executeCommand" status) :ready))))))

(find-file (getenv "CODEGEMMA_FILE"))
(python-mode)
(if (eq client 'eglot) (start-eglot) (start-lsp-mode))
(let ((tries 0))
  (while (and (< tries 1500) (not (ready-p)))
    (setq tries (1+ tries))
    (accept-process-output nil 0.2))
  (goto-char (point-min))
  (forward-line (1- (string-to-number (getenv "CODEGEMMA_LINE"))))
  (end-of-line)
  (insert (getenv "CODEGEMMA_TYPED"))
  (completion-at-point)
  (save-buffer)
  (if (eq client 'eglot) (eglot-shutdown (eglot-current-server)) (lsp-workspace-shutdown (car (lsp-workspaces)))))
